require("./run")(process.env.INPUT_PRE);
