require("./run")(process.env.INPUT_MAIN);
