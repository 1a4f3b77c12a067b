// A format: the text format of PostgreSQL's COPY. One row is a line, its values
// separated by a tab or by the option `delimiter`; null is `\N`; in texts a
// backslash stands before a backslash, a delimiter or a line break.
//
// Make it yours: `describe` says what the format is, `option` knows its options,
// `plan_column` what it can write, `put_value` how. consign.h has the rest.
#include <stdlib.h>
#include <wasm_simd128.h>

#include "consign.h"

static const char NAME[] = "my-format";
static const char VERSION[] = "1.0.0";
static const char EXTENSION[] = "txt";
static const char MEDIA_TYPE[] = "text/plain; charset=utf-8";

// JSON Schema of the options, which `consign plugin inspect` shows.
static const char OPTIONS_SCHEMA[] =
    "{\"type\": \"object\", \"additionalProperties\": false, \"properties\": {"
    "\"delimiter\": {\"type\": \"string\", \"default\": \"\\t\", \"minLength\": 1, \"maxLength\": 1, \"description\": "
    "\"Between two values: a tab, or one ASCII character that no number or date has, such as `|` or `;`.\"}}}";

// How the values of a column are written.
typedef enum {
    ALL_NULL, BOOL,
    I8, I16, I32, I64, U8, U16, U32, U64, F32, F64,
    DECIMAL32, DECIMAL64, DECIMAL128,
    DATE32, DATE64, TIME32, TIME64, TIMESTAMP,
    TEXT, LARGE_TEXT, BINARY, LARGE_BINARY, FIXED_BINARY,
} how_t;

typedef struct {
    how_t how;
    int scale;          // of decimals
    uint8_t unit;       // of times
    bool instant;       // a timestamp with a time zone
    uint32_t width;     // of fixed-size binary
} plan_t;

// One delivery.
typedef struct exports_consign_format_formatter_formatter_t {
    uint8_t delimiter;
    size_t column_count;
    plan_t *plans;
    rows_t rows;
    uint64_t row_count;
} copy_t;

// ---------------------------------------------------------------- options and schema

static void option(void *context, const char *key, const char *text, problems_t *problems) {
    copy_t *copy = context;
    if (strcmp(key, "delimiter")) {
        text_t path = text_of("/%s", key);
        problem(problems, (char *)path.ptr, text_of("is no option of this format; it has `delimiter`"));
        free(path.ptr);
        return;
    }
    bool one = text && text[0] && !text[1] && (text[0] == '\t' || text[0] >= ' ') && text[0] != 0x7f;
    bool in_values = one && (strchr("\\+-.:", text[0]) || (text[0] >= '0' && text[0] <= '9') ||
                             ((text[0] | 32) >= 'a' && (text[0] | 32) <= 'z'));
    if (!one || in_values) {
        problem(problems, "/delimiter", text_of("%s: write one ASCII character such as `|` `;` or a tab (\"\\t\")",
            in_values ? "numbers, dates and words have this character in them" : "is not one ASCII character"));
    } else {
        copy->delimiter = (uint8_t)text[0];
    }
}

static bool plan_column(const data_type_t *type, plan_t *plan) {
    *plan = (plan_t){0};
    switch (type->tag) {
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_NULL: plan->how = ALL_NULL; return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_BOOLEAN: plan->how = BOOL; return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_INT8: plan->how = I8; return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_INT16: plan->how = I16; return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_INT32: plan->how = I32; return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_INT64: plan->how = I64; return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_UINT8: plan->how = U8; return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_UINT16: plan->how = U16; return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_UINT32: plan->how = U32; return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_UINT64: plan->how = U64; return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_FLOAT32: plan->how = F32; return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_FLOAT64: plan->how = F64; return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_DECIMAL32:
            *plan = (plan_t){.how = DECIMAL32, .scale = type->val.decimal32.scale};
            return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_DECIMAL64:
            *plan = (plan_t){.how = DECIMAL64, .scale = type->val.decimal64.scale};
            return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_DECIMAL128:
            *plan = (plan_t){.how = DECIMAL128, .scale = type->val.decimal128.scale};
            return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_DATE32: plan->how = DATE32; return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_DATE64: plan->how = DATE64; return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_TIME32:
            *plan = (plan_t){.how = TIME32, .unit = type->val.time32};
            return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_TIME64:
            *plan = (plan_t){.how = TIME64, .unit = type->val.time64};
            return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_TIMESTAMP:
            *plan = (plan_t){.how = TIMESTAMP, .unit = type->val.timestamp.unit,
                             .instant = type->val.timestamp.timezone.is_some};
            return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_UTF8: plan->how = TEXT; return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_LARGE_UTF8: plan->how = LARGE_TEXT; return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_BINARY: plan->how = BINARY; return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_LARGE_BINARY: plan->how = LARGE_BINARY; return true;
        case CONSIGN_FORMAT_TYPES_DATA_TYPE_FIXED_SIZE_BINARY:
            *plan = (plan_t){.how = FIXED_BINARY, .width = type->val.fixed_size_binary};
            return true;
        default: return false;
    }
}

// All that is wrong, and what there is to know for writing when nothing is.
static void prepare(copy_t *copy, const text_t *options, const schema_t *schema, problems_t *problems) {
    copy->delimiter = '\t';
    each_option(options, option, copy, problems);
    copy->plans = grown(NULL, (schema->len + 1) * sizeof *copy->plans);
    copy->column_count = 0;
    for (size_t i = 0; i < schema->len; i++) {
        const field_t *field = &schema->ptr[i];
        if (plan_column(&field->data_type, &copy->plans[copy->column_count])) {
            copy->column_count++;
            continue;
        }
        problem(problems, "", text_of("column `%.*s` is of a type that has no place in a line: convert it to "
                "numbers or text in the query, or leave it out", (int)field->name.len, field->name.ptr));
        // Its members come after it, each with its own.
        for (size_t members = field->children; members; members--) members += schema->ptr[++i].children;
    }
    if (!schema->len) problem(problems, "", text_of("the dataset has no columns: select at least one in the query"));
}

// ---------------------------------------------------------------- writing

// A text with special bytes, or near the end of its buffer.
static uint8_t *put_escaped(uint8_t *at, bytes_t text, uint8_t delimiter) {
    for (size_t i = 0; i < text.length; i++) {
        uint8_t byte = text.from[i];
        if (byte == '\n' || byte == '\r') {
            *at++ = '\\';
            *at++ = byte == '\n' ? 'n' : 'r';
            continue;
        }
        if (byte == '\\' || byte == delimiter) *at++ = '\\';
        *at++ = byte;
    }
    return at;
}

// Copies 16 bytes at a time as long as none of them is special. Control
// characters count as special, for the line breaks among them.
static inline uint8_t *put_text(uint8_t *at, bytes_t text, const uint8_t *end, uint8_t delimiter) {
    const v128_t backslashes = wasm_i8x16_splat('\\'), spaces = wasm_u8x16_splat(' ');
    const v128_t delimiters = wasm_i8x16_splat((int8_t)delimiter);
    const uint8_t *from = text.from;
    for (size_t left = text.length; left;) {
        size_t count = left < 16 ? left : 16;
        if ((size_t)(end - from) < 16) return put_escaped(at, (bytes_t){from, left}, delimiter);
        v128_t bytes = wasm_v128_load(from);
        v128_t special = wasm_v128_or(wasm_u8x16_lt(bytes, spaces),
            wasm_v128_or(wasm_i8x16_eq(bytes, backslashes), wasm_i8x16_eq(bytes, delimiters)));
        if (wasm_i8x16_bitmask(special) & ((1u << count) - 1)) return put_escaped(at, (bytes_t){from, left}, delimiter);
        wasm_v128_store(at, bytes);
        at += count;
        from += count;
        left -= count;
    }
    return at;
}

// As PostgreSQL reads `bytea`: `\x` and hexadecimal digits.
static uint8_t *put_binary(uint8_t *at, bytes_t bytes) {
    static const char HEX[] = "0123456789abcdef";
    at = put_bytes(at, "\\\\x", 3);
    for (size_t i = 0; i < bytes.length; i++) {
        *at++ = (uint8_t)HEX[bytes.from[i] >> 4];
        *at++ = (uint8_t)HEX[bytes.from[i] & 15];
    }
    return at;
}

// What there is least of, kept out of the loop below.
static __attribute__((noinline)) uint8_t *put_rare(uint8_t *at, const plan_t *plan, const column_t *column,
                                                   uint32_t row) {
    switch (plan->how) {
        case I8: return put_i64(at, int8_at(column, row));
        case I16: return put_i64(at, int16_at(column, row));
        case U8: return put_u64(at, uint8_at(column, row));
        case U16: return put_u64(at, uint16_at(column, row));
        case U32: return put_u64(at, uint32_at(column, row));
        case U64: return put_u64(at, uint64_at(column, row));
        case F32: return put_f32(at, float32_at(column, row));
        case DECIMAL32: return put_decimal64(at, int32_at(column, row), plan->scale);
        case DATE64: return put_date(at, floor_div(int64_at(column, row), 86400000));
        case TIME32: return put_time(at, int32_at(column, row), plan->unit);
        case TIME64: return put_time(at, int64_at(column, row), plan->unit);
        case BINARY: return put_binary(at, bytes_at(column, row));
        case LARGE_BINARY: return put_binary(at, large_bytes_at(column, row));
        case FIXED_BINARY:
            return put_binary(at, (bytes_t){column->values.ptr + (size_t)row * plan->width, plan->width});
        default: return put_bytes(at, "\\N", 2);
    }
}

static inline uint8_t *put_decimal(uint8_t *at, __int128 value, int scale) {
    int64_t low = (int64_t)value;
    return low == value ? put_decimal64(at, low, scale) : put_decimal128(at, value, scale);
}

// The bytes to reserve for a value: as many as its text may have, escaped.
static inline size_t most_bytes(const plan_t *plan, const column_t *column, uint32_t row) {
    switch (plan->how) {
        case TEXT: case BINARY: return bytes_at(column, row).length * 2 + 32;
        case LARGE_TEXT: case LARGE_BINARY: return large_bytes_at(column, row).length * 2 + 32;
        case FIXED_BINARY: return (size_t)plan->width * 2 + 32;
        default: return VALUE_BYTES_MAX;
    }
}

static inline uint8_t *put_value(uint8_t *at, const plan_t *plan, const column_t *column, uint32_t row,
                                 uint8_t delimiter) {
    switch (plan->how) {
        case TEXT: return put_text(at, bytes_at(column, row), column->values.ptr + column->values.len, delimiter);
        case LARGE_TEXT:
            return put_text(at, large_bytes_at(column, row), column->values.ptr + column->values.len, delimiter);
        case I32: return put_i64(at, int32_at(column, row));
        case I64: return put_i64(at, int64_at(column, row));
        case F64: return put_f64(at, float64_at(column, row));
        case DECIMAL64: return put_decimal64(at, int64_at(column, row), plan->scale);
        case DECIMAL128: return put_decimal(at, int128_at(column, row), plan->scale);
        case DATE32: return put_date(at, int32_at(column, row));
        case TIMESTAMP: return put_timestamp(at, int64_at(column, row), plan->unit, plan->instant);
        case BOOL: *at = bool_at(column, row) ? 't' : 'f'; return at + 1;
        default: return put_rare(at, plan, column, row);
    }
}

static void put_row(copy_t *copy, const columns_t *columns, uint32_t row, sink_t sink) {
    uint8_t *at = rows_begin(&copy->rows);
    for (size_t i = 0; i < copy->column_count; i++) {
        const column_t *column = &columns->ptr[i];
        const plan_t *plan = &copy->plans[i];
        at = rows_reserve(&copy->rows, at, most_bytes(plan, column, row));
        if (i) *at++ = copy->delimiter;
        at = is_valid(column, row) ? put_value(at, plan, column, row, copy->delimiter) : put_bytes(at, "\\N", 2);
    }
    *at++ = '\n';
    rows_end(&copy->rows, sink, at);
}

// ---------------------------------------------------------------- what the host calls

void exports_consign_format_formatter_describe(consign_format_types_description_t *description) {
    *description = (consign_format_types_description_t){
        .name = text_of("%s", NAME),
        .version = text_of("%s", VERSION),
        .extension = text_of("%s", EXTENSION),
        .media_type = text_of("%s", MEDIA_TYPE),
        .options_schema = text_of("%s", OPTIONS_SCHEMA),
    };
}

void exports_consign_format_formatter_check(text_t *options, schema_t *schema, diagnostics_t *found) {
    copy_t copy = {0};
    problems_t problems = {0};
    prepare(&copy, options, schema, &problems);
    free(copy.plans);
    format_plugin_string_free(options);
    exports_consign_format_formatter_list_field_free(schema);
    *found = (diagnostics_t){problems.items, problems.count};
}

bool exports_consign_format_formatter_static_formatter_open(
    text_t *options, schema_t *schema, exports_consign_format_formatter_own_formatter_t *opened, error_t *error) {
    copy_t *copy = grown(NULL, sizeof *copy);
    *copy = (copy_t){0};
    problems_t problems = {0};
    prepare(copy, options, schema, &problems);
    format_plugin_string_free(options);
    exports_consign_format_formatter_list_field_free(schema);
    if (problems.count) {
        refuse(&problems, error);
        free(copy->plans);
        free(copy);
        return false;
    }
    rows_init(&copy->rows, EXTENSION, MEDIA_TYPE);
    *opened = exports_consign_format_formatter_formatter_new(copy);
    return true;
}

bool exports_consign_format_formatter_method_formatter_write(
    copy_t *copy, consign_format_data_borrow_batch_t batch, sink_t sink, error_t *error) {
    (void)error;
    uint32_t row_count = consign_format_data_method_batch_rows(batch);
    columns_t columns;
    consign_format_data_method_batch_columns(batch, &columns);
    for (uint32_t row = 0; row < row_count; row++) put_row(copy, &columns, row, sink);
    columns_free(&columns);
    copy->row_count += row_count;
    consign_format_run_progress(copy->row_count);
    return true;
}

bool exports_consign_format_formatter_method_formatter_finish(copy_t *copy, sink_t sink, error_t *error) {
    (void)error;
    rows_finish(&copy->rows, sink);
    return true;
}

void exports_consign_format_formatter_formatter_destructor(copy_t *copy) {
    rows_free(&copy->rows);
    free(copy->plans);
    free(copy);
}
