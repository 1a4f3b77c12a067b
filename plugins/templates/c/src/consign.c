#include "consign.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

// The bindings want the type of the component linked in. `consign plugin build`
// adds it to the module instead, from wit/v1.
void __component_type_object_force_link_format_plugin(void) {}

// ---------------------------------------------------------------- memory

void *grown(void *memory, size_t bytes) {
    memory = realloc(memory, bytes);
    if (!memory) abort();
    return memory;
}

text_t text_of(const char *format, ...) {
    va_list values;
    va_start(values, format);
    int length = vsnprintf(NULL, 0, format, values);
    va_end(values);
    if (length <= 0) return (text_t){NULL, 0};
    char *text = grown(NULL, (size_t)length + 1);
    va_start(values, format);
    vsnprintf(text, (size_t)length + 1, format, values);
    va_end(values);
    return (text_t){(uint8_t *)text, (size_t)length};
}

// ---------------------------------------------------------------- problems

void problem(problems_t *problems, const char *path, text_t message) {
    problems->items = grown(problems->items, (problems->count + 1) * sizeof *problems->items);
    problems->items[problems->count++] = (diagnostic_t){
        .severity = CONSIGN_FORMAT_TYPES_SEVERITY_ERROR,
        .path = text_of("%s", path),
        .message = message,
    };
}

void refuse(problems_t *problems, error_t *error) {
    text_t all = {NULL, 0};
    bool options = false;
    for (size_t i = 0; i < problems->count; i++) {
        text_t path = problems->items[i].path, message = problems->items[i].message, before = all;
        const char *separator = i ? "; " : "";
        options |= path.len > 0;
        if (path.len) {
            all = text_of("%.*s%s`%.*s`: %.*s", (int)before.len, before.ptr, separator, (int)path.len, path.ptr,
                          (int)message.len, message.ptr);
        } else {
            all = text_of("%.*s%s%.*s", (int)before.len, before.ptr, separator, (int)message.len, message.ptr);
        }
        free(before.ptr);
        free(path.ptr);
        free(message.ptr);
    }
    free(problems->items);
    error->tag = options ? CONSIGN_FORMAT_TYPES_ERROR_INVALID_OPTIONS : CONSIGN_FORMAT_TYPES_ERROR_UNSUPPORTED;
    error->val.other = all;
}

// ---------------------------------------------------------------- options

// A reader of JSON that the host has checked and made: it is never malformed,
// and has no white space that matters.
typedef struct {
    const uint8_t *at, *end;
} json_t;

static uint8_t peek(json_t *json) {
    while (json->at < json->end && (*json->at == ' ' || *json->at == '\n' || *json->at == '\r' || *json->at == '\t'))
        json->at++;
    return json->at < json->end ? *json->at : 0;
}

static bool take(json_t *json, char wanted) {
    if (peek(json) != wanted) return false;
    json->at++;
    return true;
}

static uint32_t take_hex(json_t *json) {
    uint32_t code = 0;
    for (int i = 0; i < 4 && json->at < json->end; i++) {
        uint8_t digit = *json->at++;
        code = code << 4 | (digit <= '9' ? digit - '0' : (digit | 32) - 'a' + 10u);
    }
    return code;
}

static char *put_utf8(char *to, uint32_t code) {
    if (code < 0x80) {
        *to++ = (char)code;
        return to;
    }
    int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    *to++ = (char)((0xf0 << (3 - more)) | code >> 6 * more);
    while (more--) *to++ = (char)(0x80 | (code >> 6 * more & 0x3f));
    return to;
}

// The string that begins here, for `free`.
static char *take_string(json_t *json) {
    char *text = grown(NULL, (size_t)(json->end - json->at) + 1), *to = text;
    json->at++;
    while (json->at < json->end && *json->at != '"') {
        uint8_t byte = *json->at++;
        if (byte != '\\' || json->at == json->end) {
            *to++ = (char)byte;
            continue;
        }
        switch (byte = *json->at++) {
            case 'b': *to++ = '\b'; break;
            case 'f': *to++ = '\f'; break;
            case 'n': *to++ = '\n'; break;
            case 'r': *to++ = '\r'; break;
            case 't': *to++ = '\t'; break;
            case 'u': {
                uint32_t code = take_hex(json);
                if (code >> 10 == 0x36 && json->end - json->at > 5) {
                    json->at += 2;
                    code = 0x10000 + ((code & 0x3ff) << 10 | (take_hex(json) & 0x3ff));
                }
                to = put_utf8(to, code);
                break;
            }
            default: *to++ = (char)byte;
        }
    }
    json->at++;
    *to = 0;
    return text;
}

// Any value but a string, up to the end of it.
static void skip_value(json_t *json) {
    for (int depth = 0; json->at < json->end;) {
        uint8_t byte = *json->at;
        if (byte == '"') {
            free(take_string(json));
            continue;
        }
        if (depth == 0 && (byte == ',' || byte == '}')) return;
        depth += (byte == '[' || byte == '{') - (byte == ']' || byte == '}');
        json->at++;
    }
}

void each_option(const text_t *text, option_fn *option, void *context, problems_t *problems) {
    json_t json = {text->ptr, text->ptr + text->len};
    if (!take(&json, '{')) {
        problem(problems, "", text_of("options must be a table of keys and values"));
        return;
    }
    while (peek(&json) == '"') {
        char *key = take_string(&json), *value = NULL;
        take(&json, ':');
        if (peek(&json) == '"') value = take_string(&json);
        else skip_value(&json);
        option(context, key, value, problems);
        free(key);
        free(value);
        take(&json, ',');
    }
}

// ---------------------------------------------------------------- objects

// A fact of the run; empty when the host has none, as in `check`.
static text_t fact(const char *key) {
    text_t name = {(uint8_t *)key, strlen(key)}, value = {NULL, 0};
    if (!consign_format_run_get(&name, &value)) return (text_t){NULL, 0};
    return value;
}

void rows_init(rows_t *rows, const char *extension, const char *media_type) {
    *rows = (rows_t){.extension = extension, .media_type = media_type, .max_object_bytes = UINT64_MAX};
    rows->stem = fact("object-stem");
    if (!rows->stem.len) rows->stem = text_of("output");
    text_t limit = fact("max-object-bytes");
    rows->splits = limit.len > 0;
    if (rows->splits) rows->max_object_bytes = 0;
    for (size_t i = 0; i < limit.len; i++) rows->max_object_bytes = rows->max_object_bytes * 10 + (limit.ptr[i] - '0');
    free(limit.ptr);
    rows_grow(rows, FLUSH_BYTES + 64 * 1024);
}

void rows_free(rows_t *rows) {
    if (rows->open) consign_format_output_object_drop_own(rows->object);
    free(rows->stem.ptr);
    free(rows->buffer);
}

void rows_grow(rows_t *rows, size_t bytes) {
    size_t needed = rows->length + bytes;
    rows->capacity = needed > rows->capacity * 2 ? needed : rows->capacity * 2;
    rows->buffer = grown(rows->buffer, rows->capacity);
}

static void open_object(rows_t *rows, sink_t sink) {
    text_t media_type = {(uint8_t *)rows->media_type, strlen(rows->media_type)};
    int stem = (int)rows->stem.len;
    text_t name = rows->splits
        ? text_of("%.*s-%05llu.%s", stem, rows->stem.ptr, (unsigned long long)rows->objects, rows->extension)
        : text_of("%.*s.%s", stem, rows->stem.ptr, rows->extension);
    rows->object = consign_format_output_method_sink_create(sink, &name, &media_type);
    free(name.ptr);
    rows->open = true;
    rows->object_bytes = rows->object_rows = 0;
    rows->objects++;
}

// Hands the first `count` bytes of the buffer to the host; the others move up.
static void flush(rows_t *rows, size_t count) {
    // A row may be longer than what the host takes at once.
    for (size_t at = 0; at < count; at += FLUSH_BYTES) {
        format_plugin_list_u8_t bytes = {rows->buffer + at, count - at < FLUSH_BYTES ? count - at : FLUSH_BYTES};
        consign_format_output_method_object_write(consign_format_output_borrow_object(rows->object), &bytes);
    }
    rows->object_bytes += count;
    rows->length -= count;
    memmove(rows->buffer, rows->buffer + count, rows->length);
}

static void close_object(rows_t *rows) {
    consign_format_output_method_object_finish(consign_format_output_borrow_object(rows->object), rows->object_rows);
    consign_format_output_object_drop_own(rows->object);
    rows->open = false;
}

// Called with a whole row at the end of the buffer that is the first, fills the
// buffer, or makes the object too large.
void rows_make_room(rows_t *rows, sink_t sink) {
    if (!rows->open) open_object(rows, sink);
    if (rows->object_bytes + rows->length > rows->max_object_bytes && rows->object_rows > 0) {
        flush(rows, rows->row_start);
        close_object(rows);
        open_object(rows, sink);
    }
    if (rows->length >= FLUSH_BYTES) flush(rows, rows->length);
    uint64_t taken = rows->object_bytes, most = rows->max_object_bytes;
    uint64_t room = taken < most ? most - taken : 0;
    rows->threshold = room < FLUSH_BYTES ? (size_t)room : FLUSH_BYTES;
}

void rows_finish(rows_t *rows, sink_t sink) {
    if (!rows->open) open_object(rows, sink);
    flush(rows, rows->length);
    close_object(rows);
}

// ---------------------------------------------------------------- columns

void columns_free(columns_t *columns) { consign_format_data_list_column_free(columns); }

// ---------------------------------------------------------------- text of values

uint8_t *put_u64_long(uint8_t *at, uint64_t value) {
    at = put_u64(at, value / 100000000);
    put_word(at, digits8(value % 100000000));
    return at + 8;
}

static uint8_t *put_special(uint8_t *at, double value) {
    if (value != value) return put_bytes(at, "NaN", 3);
    if (value < 0) *at++ = '-';
    return put_bytes(at, "Infinity", 8);
}

// With a point or an exponent, so that it is read as no integer.
static uint8_t *end_float(uint8_t *at, int length) {
    if (strpbrk((char *)at, ".e")) return at + length;
    return put_bytes(at + length, ".0", 2);
}

uint8_t *put_f64_any(uint8_t *at, double value) {
    if (value - value != 0) return put_special(at, value);
    int length = 0;
    for (int digits = 15; digits <= 17; digits++) {
        length = snprintf((char *)at, 32, "%.*g", digits, value);
        if (strtod((char *)at, NULL) == value) break;
    }
    return end_float(at, length);
}

uint8_t *put_f32_any(uint8_t *at, float value) {
    if (value - value != 0) return put_special(at, value);
    int length = 0;
    for (int digits = 6; digits <= 9; digits++) {
        length = snprintf((char *)at, 32, "%.*g", digits, (double)value);
        if (strtof((char *)at, NULL) == value) break;
    }
    return end_float(at, length);
}

uint8_t *put_decimal128(uint8_t *at, __int128 value, int scale) {
    uint8_t digits[192], *first = digits + sizeof digits;
    unsigned __int128 size = value < 0 ? 0 - (unsigned __int128)value : (unsigned __int128)value;
    do *--first = (uint8_t)('0' + (unsigned)(size % 10));
    while (size /= 10);
    int count = (int)(digits + sizeof digits - first);
    for (; count <= scale; count++) *--first = '0';
    if (value < 0) *at++ = '-';
    if (scale <= 0) {
        at = put_bytes(at, first, (size_t)count);
        if (value) memset(at, '0', (size_t)-scale);
        return value ? at - scale : at;
    }
    at = put_bytes(at, first, (size_t)(count - scale));
    *at++ = '.';
    return put_bytes(at, first + count - scale, (size_t)scale);
}

// Years before 0 and after 9999 have a sign.
uint8_t *put_far_date(uint8_t *at, int64_t year, unsigned month, unsigned day) {
    return at + snprintf((char *)at, 32, "%+05lld-%02u-%02u", (long long)year, month, day);
}
