// Prints what AsyncAPI's own parser finds wrong in a document: nothing, if it is valid.

import { readFileSync } from "node:fs";
import asyncapi from "@asyncapi/parser";

const { document, diagnostics } = await new asyncapi.Parser().parse(
  readFileSync(process.argv[2], "utf8"),
);
for (const each of diagnostics.filter(({ severity }) => severity < 2)) {
  console.log(`${each.path.join(".")}: ${each.message}`);
}
if (!document) {
  console.log("it is not a valid document");
}
