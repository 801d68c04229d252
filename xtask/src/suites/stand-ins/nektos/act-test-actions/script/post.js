require("./run")(process.env.INPUT_POST);
