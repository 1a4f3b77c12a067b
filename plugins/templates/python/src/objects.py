"""Lines on their way to the host."""

from wit_world.imports import run
from wit_world.imports.output import Object, Sink

# Bytes handed to the host at once.
FLUSH_BYTES = 256 * 1024


class Lines:
    """Lines on their way into objects: `STEM.EXT`, or `STEM-00000.EXT` and so on
    when the share splits."""

    def __init__(self, extension: str, media_type: str) -> None:
        self.extension, self.media_type = extension, media_type
        self.stem = run.get("object-stem") or "output"
        limit = run.get("max-object-bytes")
        self.limit = None if limit is None else int(limit)
        self.object: Object | None = None
        self.objects = self.bytes = self.rows = 0

    def write(self, sink: Sink, lines: list[str]) -> None:
        """Lines without their ends."""
        text = ("\n".join(lines) + "\n").encode()
        if self.limit is None or self.bytes + len(text) <= self.limit:
            self.put(sink, text, len(lines))
            return
        # Whole lines, as many as fit; one that is larger than an object has one of its own.
        pending: list[bytes] = []
        size = 0
        for line in text.splitlines(keepends=True):
            if self.bytes + size + len(line) > self.limit and self.rows + len(pending) > 0:
                self.put(sink, b"".join(pending), len(pending))
                self.close()
                pending, size = [], 0
            pending.append(line)
            size += len(line)
        self.put(sink, b"".join(pending), len(pending))

    def put(self, sink: Sink, text: bytes, rows: int) -> None:
        if self.object is None:
            number = "" if self.limit is None else f"-{self.objects:05}"
            self.object = sink.create(f"{self.stem}{number}.{self.extension}", self.media_type)
            self.objects += 1
            self.bytes = self.rows = 0
        for start in range(0, len(text), FLUSH_BYTES):
            self.object.write(text[start : start + FLUSH_BYTES])
        self.bytes += len(text)
        self.rows += rows

    def close(self) -> None:
        self.object.finish(self.rows)
        self.object.__exit__(None, None, None)
        self.object = None
        self.bytes = self.rows = 0

    def finish(self, sink: Sink) -> None:
        if self.object is None:
            self.put(sink, b"", 0)
        self.close()
