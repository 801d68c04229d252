// Evaluates expressions with GitHub's own evaluator: a line of contexts, then an expression a line; answers each.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const { Lexer, Parser, Evaluator, ExpressionError, data } = await import(pathToFileURL(process.argv[2]));
const kinds = ["String", "Array", "Object", "Boolean", "Number", "Object", "Null"];

let names;
let contexts;
for await (const line of createInterface({ input: process.stdin })) {
  const read = JSON.parse(line);
  if (names === undefined) {
    names = Object.keys(read);
    contexts = JSON.parse(line, data.reviver);
    continue;
  }
  console.log(JSON.stringify(answer(read)));
}

function answer(expression) {
  let tokens;
  try {
    tokens = new Lexer(expression).lex().tokens;
  } catch {
    return "lexing";
  }
  let tree;
  try {
    tree = new Parser(tokens, names, []).parse();
  } catch {
    return "parsing";
  }
  try {
    const value = tree === undefined ? new data.Null() : new Evaluator(tree, contexts).evaluate();
    const text = value.kind === 4 ? value.coerceString() : JSON.stringify(value, data.replacer);
    return [kinds[value.kind], text];
  } catch {
    return "evaluation";
  }
}
