console.log(`Hello ${process.env["INPUT_WHO-TO-GREET"]}!`);
require("fs").appendFileSync(process.env.GITHUB_OUTPUT, `time=${new Date().toTimeString()}\n`);
