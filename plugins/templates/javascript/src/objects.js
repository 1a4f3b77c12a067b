// Lines on their way into objects: `STEM.EXT`, or `STEM-00000.EXT` and so on when
// the share splits.

import * as run from "consign:format/run@1.0.0";

// Bytes handed to the host at once.
const FLUSH_BYTES = 256 * 1024;

const encoder = new TextEncoder();

export class Objects {
  constructor(extension, mediaType) {
    this.extension = extension;
    this.mediaType = mediaType;
    this.stem = run.get("object-stem") ?? "output";
    const limit = run.get("max-object-bytes");
    this.limit = limit == null ? Infinity : Number(limit);
    this.splits = limit != null;
    this.object = null;
    this.objects = this.bytes = this.rows = 0;
  }

  // Lines without their ends.
  write(sink, lines) {
    const text = encoder.encode(lines.join("\n") + "\n");
    if (this.bytes + text.length <= this.limit) {
      this.put(sink, text, lines.length);
      return;
    }
    // Whole lines, as many as fit; one that is larger than an object has one of its own.
    let start = 0;
    let end = 0;
    let first = 0;
    for (let index = 0; index < lines.length; index++) {
      const next = text.indexOf(10, end) + 1;
      if (this.bytes + next - start > this.limit && this.rows + index - first > 0) {
        this.put(sink, text.subarray(start, end), index - first);
        this.close();
        start = end;
        first = index;
      }
      end = next;
    }
    this.put(sink, text.subarray(start), lines.length - first);
  }

  put(sink, text, rows) {
    if (this.object === null) {
      const number = this.splits ? `-${String(this.objects).padStart(5, "0")}` : "";
      this.object = sink.create(`${this.stem}${number}.${this.extension}`, this.mediaType);
      this.objects += 1;
    }
    for (let start = 0; start < text.length; start += FLUSH_BYTES) {
      this.object.write(text.subarray(start, start + FLUSH_BYTES));
    }
    this.bytes += text.length;
    this.rows += rows;
  }

  close() {
    this.object.finish(BigInt(this.rows));
    this.object[Symbol.dispose]();
    this.object = null;
    this.bytes = this.rows = 0;
  }

  finish(sink) {
    if (this.object === null) this.put(sink, new Uint8Array(0), 0);
    this.close();
  }
}
