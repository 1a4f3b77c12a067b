// A batch as lines of text.
//
// JavaScript is interpreted here: what is fast is what a built-in function does.
// So the rows are taken as JSON lines, each of which is parsed, turned into a list
// and joined by one call. What JSON does not say as the format does is looked for
// once a batch, and put right in the rows that have it: nulls, escapes, booleans,
// binary data, integers of more than 53 bits, numbers that are none.

const NULL = "\\N";
const TYPES = new Set(
  ("null boolean int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 decimal32 decimal64 decimal128 " +
    "date32 date64 time32 time64 timestamp utf8 large-utf8 binary large-binary fixed-size-binary").split(" "),
);
const decoder = new TextDecoder();

// Whether a column of this type can be written.
export const writes = (dataType) => TYPES.has(dataType.tag);

export class LineWriter {
  constructor(schema, delimiter) {
    this.delimiter = delimiter;
    const names = schema.map(({ name }) => name);
    // An object's values are in the order of the columns, but for names that are numbers: those come first.
    this.values = names.some((name) => /^\d+$/.test(name)) ? (row) => names.map((name) => row[name]) : Object.values;
    const columns = (...tags) =>
      schema.flatMap(({ dataType }, index) => (tags.some((tag) => dataType.tag.endsWith(tag)) ? [index] : []));
    this.texts = columns("utf8");
    this.booleans = columns("boolean");
    this.binaries = columns("binary");
    this.longs = schema.flatMap(({ dataType: { tag } }, index) =>
      tag === "int64" ? [[index, BigInt64Array]] : tag === "uint64" ? [[index, BigUint64Array]] : [],
    );
    this.floats = schema.flatMap(({ dataType: { tag } }, index) =>
      tag === "float32" ? [[index, Float32Array]] : tag === "float64" ? [[index, Float64Array]] : [],
    );
    this.special = new RegExp(`[\\\\\n\r${delimiter === "\\" ? "" : `\\u${hex(delimiter.charCodeAt(0), 4)}`}]`);
  }

  // The batch's lines, without their ends.
  of(batch) {
    const { delimiter, values: valuesOf } = this;
    const text = decoder.decode(batch.jsonLines());
    const lines = text.split("\n");
    lines.pop();
    const fixes = this.fixes(text, batch);
    if (fixes.length === 0) {
      for (let row = 0; row < lines.length; row++) {
        lines[row] = valuesOf(JSON.parse(lines[row])).join(delimiter);
      }
      return lines;
    }
    for (let row = 0; row < lines.length; row++) {
      const line = lines[row];
      const values = valuesOf(JSON.parse(line));
      for (const fix of fixes) fix(values, line, row);
      lines[row] = values.join(delimiter);
    }
    return lines;
  }

  // What has to be put right in rows of this batch. Nulls come last, so that the
  // others do not see their text.
  fixes(text, batch) {
    const fixes = [];
    // Doubles do not hold all of them; JSON text with so many digits is looked for.
    const long = this.longs.length > 0 && /":-?\d{16}/.test(text);
    const none = this.floats.length > 0 && text.includes(":null");
    if (long || none) {
      const columns = batch.columns();
      if (long) fixes.push(...this.longs.map(([index, Type]) => exact(columns[index], index, Type)));
      if (none) fixes.push(...this.floats.map(([index, Type]) => exact(columns[index], index, Type)));
    }
    if (this.booleans.length > 0) fixes.push((values) => this.each(values, this.booleans, (value) => (value ? "t" : "f")));
    if (this.binaries.length > 0) fixes.push((values) => this.each(values, this.binaries, bytea));
    if (this.texts.length > 0 && (text.includes("\\") || text.includes(this.delimiter))) {
      fixes.push((values, line) => {
        if (line.includes("\\") || line.includes(this.delimiter)) this.each(values, this.texts, (value) => this.escaped(value));
      });
    }
    if (text.includes(":null")) {
      fixes.push((values, line) => {
        if (!line.includes(":null")) return;
        for (let index = 0; index < values.length; index++) values[index] ??= NULL;
      });
    }
    return fixes;
  }

  each(values, indexes, write) {
    for (const index of indexes) {
      if (values[index] !== null) values[index] = write(values[index]);
    }
  }

  escaped(text) {
    if (!this.special.test(text)) return text;
    return text
      .replaceAll("\\", "\\\\")
      .replaceAll("\n", "\\n")
      .replaceAll("\r", "\\r")
      .replaceAll(this.delimiter, `\\${this.delimiter}`);
  }
}

// Takes a column's values from its bytes, which are not aligned.
function exact({ values: bytes, validity }, index, Type) {
  const items = new Type(bytes.slice().buffer);
  return (values, _line, row) => {
    const valid = validity == null || (validity[row >> 3] >> (row & 7)) & 1;
    if (valid && values[index] !== items[row]) values[index] = Type === Float32Array ? (values[index] ?? items[row]) : items[row];
  };
}

const hex = (number, width) => number.toString(16).padStart(width, "0");

// From base64 to what PostgreSQL reads as `bytea`, with the backslash doubled.
function bytea(base64) {
  const bytes = atob(base64);
  let text = "\\\\x";
  for (let at = 0; at < bytes.length; at++) text += hex(bytes.charCodeAt(at), 2);
  return text;
}
