// A format: the text format of PostgreSQL's COPY. One row is a line, its values
// separated by a tab or by the option `delimiter`; null is `\N`; in texts a
// backslash stands before a backslash, a delimiter or a line break.
//
// Make it yours: this file says what the format is and what its options are,
// lines.js how a batch becomes lines.

import * as run from "consign:format/run@1.0.0";

import { LineWriter, writes } from "./lines.js";
import { Objects } from "./objects.js";

const NAME = "my-format";
const VERSION = "1.0.0";
const EXTENSION = "txt";
const MEDIA_TYPE = "text/plain; charset=utf-8";

// JSON Schema of the options, which `consign plugin inspect` shows.
const OPTIONS_SCHEMA = {
  type: "object",
  additionalProperties: false,
  properties: {
    delimiter: {
      type: "string",
      default: "\t",
      minLength: 1,
      maxLength: 1,
      description:
        "Between two values: a tab, or one ASCII character that no number or date has, such as `|` or `;`.",
    },
  },
};

// The delimiter, and all that is wrong: where in the options, as a JSON Pointer
// ("" when it is the schema), and what to write instead.
function prepare(options, schema) {
  const problems = [];
  const problem = (path, message) => problems.push({ path, message });
  const { delimiter = "\t", ...others } = JSON.parse(options);
  for (const key of Object.keys(others)) {
    problem(`/${key}`, "is no option of this format; it has `delimiter`");
  }
  const instead = 'write one ASCII character such as `|` `;` or a tab ("\\t")';
  if (typeof delimiter !== "string" || !/^[\t -~]$/.test(delimiter)) {
    problem("/delimiter", `is not one ASCII character: ${instead}`);
  } else if (/[a-zA-Z0-9\\+\-.:]/.test(delimiter)) {
    problem("/delimiter", `numbers, dates and words have this character in them: ${instead}`);
  }
  if (schema.length === 0) {
    problem("", "the dataset has no columns: select at least one in the query");
  }
  // Members of a nested column come after it, each with its own.
  let members = 0;
  const names = new Set();
  for (const { name, dataType, children } of schema) {
    const isMember = members > 0;
    members += children - (isMember ? 1 : 0);
    if (!isMember && !writes(dataType)) {
      problem(
        "",
        `column \`${name}\` is a ${dataType.tag}, which has no place in a line: ` +
          "convert it to numbers or text in the query, or leave it out",
      );
    }
    // Rows are objects here, with one value for each name.
    if (!isMember && names.has(name)) {
      problem("", `two columns are called \`${name}\`: give one of them another name in the query`);
    }
    if (!isMember) names.add(name);
  }
  return { delimiter, problems };
}

// One delivery. consign calls `open` once, `write` for each batch, `finish` at
// the end; nothing after an error.
class Formatter {
  static open(options, schema) {
    const { delimiter, problems } = prepare(options, schema);
    if (problems.length > 0) {
      const told = problems.map(({ path, message }) => (path ? `\`${path}\`: ${message}` : message)).join("; ");
      // What is thrown is an error of the contract; its cases say whether to try again.
      throw { tag: problems.some(({ path }) => path) ? "invalid-options" : "unsupported", val: told };
    }
    const self = new Formatter();
    self.lines = new LineWriter(schema, delimiter);
    self.objects = new Objects(EXTENSION, MEDIA_TYPE);
    self.rows = 0;
    return self;
  }

  write(batch, sink) {
    this.objects.write(sink, this.lines.of(batch));
    this.rows += batch.rows();
    run.progress(BigInt(this.rows));
  }

  finish(sink) {
    this.objects.finish(sink);
  }
}

export const formatter = {
  describe: () => ({
    name: NAME,
    version: VERSION,
    extension: EXTENSION,
    mediaType: MEDIA_TYPE,
    optionsSchema: JSON.stringify(OPTIONS_SCHEMA),
  }),

  check: (options, schema) => prepare(options, schema).problems.map((problem) => ({ severity: "error", ...problem })),

  Formatter,
};
