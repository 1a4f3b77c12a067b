// What a format in C needs besides the contract's bindings: a buffer, the text
// of each kind of value, objects that are written in large pieces and split,
// options, errors.
//
// A format that writes anything but lines of text needs little of it: change
// what does not fit, the file is the project's own.
#ifndef CONSIGN_H
#define CONSIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "bindings/format_plugin.h"

// The generated names are long.
typedef format_plugin_string_t text_t;
typedef consign_format_types_field_t field_t;
typedef consign_format_types_data_type_t data_type_t;
typedef consign_format_types_column_t column_t;
typedef consign_format_types_error_t error_t;
typedef consign_format_types_diagnostic_t diagnostic_t;
typedef consign_format_data_list_column_t columns_t;
typedef exports_consign_format_formatter_list_field_t schema_t;
typedef exports_consign_format_formatter_list_diagnostic_t diagnostics_t;
typedef consign_format_output_borrow_sink_t sink_t;

// ---------------------------------------------------------------- memory

// Memory that is there, or the plugin ends; free it with `free`.
void *grown(void *memory, size_t bytes);

// A text of its own in memory of its own, as `printf` makes it. What is handed
// to the host must be such a text: the bindings free it.
text_t text_of(const char *format, ...) __attribute__((format(printf, 1, 2)));

// ---------------------------------------------------------------- problems

// What is wrong with options or schema, one by one.
typedef struct {
    diagnostic_t *items;
    size_t count;
} problems_t;

// `path` is a JSON Pointer into the options, or "" when the schema is wrong.
void problem(problems_t *problems, const char *path, text_t message);

// The problems as the error that `open` fails with; takes them.
void refuse(problems_t *problems, error_t *error);

// ---------------------------------------------------------------- options

// Called for each key of the options. `text` is the value when it is a string,
// otherwise null. Both last for the call only.
typedef void option_fn(void *context, const char *key, const char *text, problems_t *problems);

// Reads options: JSON text, an object.
void each_option(const text_t *json, option_fn *option, void *context, problems_t *problems);

// ---------------------------------------------------------------- objects

// Rows on their way into objects: `STEM.EXT`, or `STEM-00000.EXT` and so on when
// the share splits. Whole rows go to the host in pieces of `FLUSH_BYTES`.
typedef struct {
    const char *extension, *media_type;
    text_t stem;
    uint64_t max_object_bytes;  // no object is larger, unless one row is
    bool splits;

    uint8_t *buffer;
    size_t capacity, length;
    size_t row_start;           // where in `buffer` the present row begins
    size_t threshold;           // the length at which something must be done
    bool open;
    consign_format_output_own_object_t object;
    uint64_t object_bytes, object_rows, objects;
} rows_t;

#define FLUSH_BYTES (256 * 1024)

void rows_init(rows_t *rows, const char *extension, const char *media_type);
void rows_free(rows_t *rows);
// Finishes the last object; without any row, one that is empty.
void rows_finish(rows_t *rows, sink_t sink);

void rows_make_room(rows_t *rows, sink_t sink);
void rows_grow(rows_t *rows, size_t bytes);

// The end of the buffer, where `bytes` more may be written.
static inline uint8_t *rows_reserve(rows_t *rows, uint8_t *at, size_t bytes) {
    size_t length = (size_t)(at - rows->buffer);
    if (__builtin_expect(rows->capacity - length < bytes, 0)) {
        rows->length = length;
        rows_grow(rows, bytes);
        return rows->buffer + length;
    }
    return at;
}

static inline uint8_t *rows_begin(rows_t *rows) { return rows->buffer + rows->length; }

// The row that ends at `at` is whole.
static inline void rows_end(rows_t *rows, sink_t sink, uint8_t *at) {
    rows->length = (size_t)(at - rows->buffer);
    if (__builtin_expect(rows->length > rows->threshold, 0)) rows_make_room(rows, sink);
    rows->row_start = rows->length;
    rows->object_rows++;
}

// ---------------------------------------------------------------- columns

void columns_free(columns_t *columns);

static inline bool is_valid(const column_t *column, uint32_t row) {
    return !column->validity.is_some || (column->validity.val.ptr[row >> 3] >> (row & 7) & 1);
}

// The buffers are not aligned, so values are copied out; it costs nothing.
#define VALUE_AT(type, name)                                                        \
    static inline type name(const column_t *column, size_t row) {                   \
        type value;                                                                 \
        memcpy(&value, column->values.ptr + row * sizeof value, sizeof value);      \
        return value;                                                               \
    }
VALUE_AT(int8_t, int8_at)
VALUE_AT(int16_t, int16_at)
VALUE_AT(int32_t, int32_at)
VALUE_AT(int64_t, int64_at)
VALUE_AT(__int128, int128_at)
VALUE_AT(uint8_t, uint8_at)
VALUE_AT(uint16_t, uint16_at)
VALUE_AT(uint32_t, uint32_at)
VALUE_AT(uint64_t, uint64_at)
VALUE_AT(float, float32_at)
VALUE_AT(double, float64_at)

static inline bool bool_at(const column_t *column, uint32_t row) {
    return column->values.ptr[row >> 3] >> (row & 7) & 1;
}

// Bytes of a text or binary value.
typedef struct {
    const uint8_t *from;
    size_t length;
} bytes_t;

// With i32 offsets, as `utf8` and `binary` have.
static inline bytes_t bytes_at(const column_t *column, size_t row) {
    uint32_t range[2];
    memcpy(range, column->offsets.val.ptr + row * sizeof *range, sizeof range);
    return (bytes_t){column->values.ptr + range[0], range[1] - range[0]};
}

// With i64 offsets, as `large-utf8` and `large-binary` have.
static inline bytes_t large_bytes_at(const column_t *column, size_t row) {
    uint64_t range[2];
    memcpy(range, column->offsets.val.ptr + row * sizeof *range, sizeof range);
    return (bytes_t){column->values.ptr + range[0], (size_t)(range[1] - range[0])};
}

// ---------------------------------------------------------------- text of values

// The most bytes that any of the functions below writes. They may write over
// all of them, and return where the text ends.
#define VALUE_BYTES_MAX 320

uint8_t *put_u64_long(uint8_t *at, uint64_t value);
uint8_t *put_f64_any(uint8_t *at, double value);
uint8_t *put_f32_any(uint8_t *at, float value);
uint8_t *put_decimal128(uint8_t *at, __int128 value, int scale);
uint8_t *put_far_date(uint8_t *at, int64_t year, unsigned month, unsigned day);

static inline uint8_t *put_bytes(uint8_t *at, const void *bytes, size_t count) {
    memcpy(at, bytes, count);
    return at + count;
}

static inline void put_word(uint8_t *at, uint64_t word) { memcpy(at, &word, 8); }

// The eight decimal digits of a number below 10^8 as ASCII, the first in the
// least significant byte. All are split at once, dividing by multiplication.
static inline uint64_t digits8(uint64_t number) {
    uint64_t high = number * 109951163 >> 40;
    uint64_t fours = high | (number - high * 10000) << 32;
    uint64_t hundreds = fours * 10486 >> 20 & 0x7f0000007f;
    uint64_t pairs = hundreds | (fours - hundreds * 100) << 16;
    uint64_t tens = pairs * 103 >> 10 & 0x000f000f000f000f;
    return (tens | (pairs - tens * 10) << 8) | 0x3030303030303030;
}

static inline uint8_t *put_u64(uint8_t *at, uint64_t value) {
    if (value >= 100000000) return put_u64_long(at, value);
    uint64_t text = digits8(value);
    // Without its leading zeros; the last digit counts even when it is zero.
    unsigned zeros = (unsigned)__builtin_ctzll((text & 0x0f0f0f0f0f0f0f0f) | 1ull << 56) / 8;
    put_word(at, text >> zeros * 8);
    return at + 8 - zeros;
}

static inline uint64_t magnitude(int64_t value) { return value < 0 ? 0 - (uint64_t)value : (uint64_t)value; }

static inline uint8_t *put_i64(uint8_t *at, int64_t value) {
    *at = '-';
    return put_u64(at + (value < 0), magnitude(value));
}

// `number / 10^6` without trailing zeros, but with one place at least.
static inline uint8_t *put_millionths(uint8_t *at, uint64_t number) {
    at = put_u64(at, number / 1000000);
    uint64_t places = digits8(number % 1000000) >> 16;
    unsigned used = 8 - (unsigned)__builtin_clzll((places & 0x0f0f0f0f0f0f) | 1) / 8;
    put_word(at, '.' | places << 8);
    return at + 1 + used;
}

// The shortest text that reads back as the same number. A decimal of at most 15
// digits that does is the shortest one; with at most six places it is found by
// rounding.
static inline uint8_t *put_f64(uint8_t *at, double value) {
    double size = __builtin_fabs(value);
    if (size >= 1e-3 && size < 1e9) {
        uint64_t millionths = (uint64_t)(size * 1e6 + 0.5);
        if ((double)millionths / 1e6 == size) {
            *at = '-';
            return put_millionths(at + (value < 0), millionths);
        }
    }
    return put_f64_any(at, value);
}

static inline uint8_t *put_f32(uint8_t *at, float value) {
    double size = __builtin_fabs((double)value);
    if (size >= 1e-3 && size < 1e3) {
        uint64_t thousandths = (uint64_t)(size * 1e3 + 0.5);
        if ((float)((double)thousandths / 1e3) == (float)size) {
            *at = '-';
            return put_millionths(at + (value < 0), thousandths * 1000);
        }
    }
    return put_f32_any(at, value);
}

// `value / 10^scale` with all of its places.
static inline uint8_t *put_decimal64(uint8_t *at, int64_t value, int scale) {
    uint64_t size = magnitude(value);
    if (scale < 1 || scale > 7 || size >= 100000000) return put_decimal128(at, value, scale);
    *at = '-';
    at += value < 0;
    uint64_t text = digits8(size);
    unsigned places = (unsigned)scale;
    unsigned zeros = (unsigned)__builtin_ctzll((text & 0x0f0f0f0f0f0f0f0f) | 1ull << 56) / 8;
    if (zeros > 7 - places) zeros = 7 - places;
    unsigned whole = 8 - zeros - places;
    text >>= zeros * 8;
    put_word(at, text);
    put_word(at + whole, '.' | text >> whole * 8 << 8);
    return at + whole + 1 + places;
}

static inline int64_t floor_div(int64_t value, int64_t by) { return value / by - (value % by < 0); }

// The date that lies `days` after 1970-01-01, as ISO 8601 has it. Years begin in
// March, so that the leap day is the last (Neri and Schneider, "Euclidean affine
// functions and their application to calendar algorithms", 2023).
static inline uint8_t *put_date(uint8_t *at, int64_t days) {
    int64_t since_march = days + 719468, era = 0;
    if (since_march < 0 || since_march >= 146097 * 25) {
        era = floor_div(since_march, 146097);
        since_march -= era * 146097;
    }
    uint32_t quarters = 4 * (uint32_t)since_march + 3;
    uint32_t century = quarters / 146097, day_of_century = quarters % 146097 / 4;
    uint64_t product = 2939745ull * (4 * day_of_century + 3);
    uint32_t year_of_century = (uint32_t)(product >> 32);
    uint32_t day_of_year = (uint32_t)product / 2939745 / 4;
    uint32_t months = 2141 * day_of_year + 197913;
    unsigned next_year = day_of_year >= 306;
    unsigned month = (months >> 16) - 12 * next_year, day = (months & 0xffff) / 2141 + 1;
    int64_t year = era * 400 + 100 * century + year_of_century + next_year;
    if (year < 0 || year > 9999) return put_far_date(at, year, month, day);
    uint64_t text = digits8((uint64_t)year * 10000 + month * 100 + day);
    put_word(at, (text & 0xffffffff) | (text >> 32 & 0xffff) << 40 | (uint64_t)'-' << 32 | (uint64_t)'-' << 56);
    at[8] = (uint8_t)(text >> 48);
    at[9] = (uint8_t)(text >> 56);
    return at + 10;
}

// What a second has of a `consign:format/types.time-unit`, and its places.
static inline int64_t per_second(uint8_t unit) {
    return unit == 0 ? 1 : unit == 1 ? 1000 : unit == 2 ? 1000000 : 1000000000;
}

// `fraction` of a second in this unit, with its point and all of its places.
static inline uint8_t *put_fraction(uint8_t *at, uint64_t fraction, uint8_t unit) {
    if (unit == 0) return at;
    *at++ = '.';
    if (unit == 3) {
        put_word(at, digits8(fraction / 10));
        at[8] = (uint8_t)('0' + fraction % 10);
        return at + 9;
    }
    unsigned places = unit * 3;
    put_word(at, digits8(fraction) >> (8 - places) * 8);
    return at + places;
}

// Seconds since midnight, less than 100 hours of them: `23:59:59`.
static inline uint8_t *put_clock(uint8_t *at, uint32_t seconds) {
    uint32_t minutes = seconds / 60;
    uint64_t text = digits8(minutes / 60 * 1000000 + minutes % 60 * 1000 + seconds % 60) ^ 0x0a00000a0000ull;
    // `HH0MM0SS` with the zeros turned into colons.
    put_word(at, text);
    return at + 8;
}

static inline uint8_t *put_time(uint8_t *at, int64_t value, uint8_t unit) {
    int64_t second = per_second(unit);
    at = put_clock(at, (uint32_t)(value / second));
    return put_fraction(at, (uint64_t)(value % second), unit);
}

// `2024-02-29T23:59:59.999999`, and a `Z` when it is an instant.
static inline uint8_t *put_timestamp(uint8_t *at, int64_t value, uint8_t unit, bool instant) {
    int64_t second = per_second(unit), seconds = floor_div(value, second), days = floor_div(seconds, 86400);
    at = put_date(at, days);
    *at++ = 'T';
    at = put_clock(at, (uint32_t)(seconds - days * 86400));
    at = put_fraction(at, (uint64_t)(value - seconds * second), unit);
    *at = 'Z';
    return at + instant;
}

#endif
