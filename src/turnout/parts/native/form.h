// The form of a text in 44 numbers: the same counts as turnout/parts/form.py, which says what they
// are, in one pass over the bytes. What is counted is whole; quotients and roots come last, in the
// order of the Python code, so that both give the same bits.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace form {

using u8 = std::uint8_t;
using i32 = std::int32_t;
using i64 = std::int64_t;
using u64 = std::uint64_t;

constexpr int COLUMNS = 44;
constexpr unsigned LETTER = 1, DIGIT = 2, CAPITAL = 4, SPACE = 8;
constexpr u64 FACTOR = 0x100000001B3;  // of the hash that words are told apart by

// Room for a text of at most `most` words. Mirrored by `_Room` of _mixture.py, field by field.
struct Room {
  const u8* kind;  // (256,) what each byte is, as bits
  u64* words;      // (most,) hash of each word
  u64* lines;      // (most,) the same, put in order line by line
  u64* table;      // (slots,) a power of two, more than twice as many as words
  i32* lengths;    // (most,) of each word
  i64 slots;
};

struct Spread {
  double mean = 0.0, spread = 0.0;
  i64 n = 0, total = 0, squares = 0, most = 0;

  void add(i64 value) {
    ++n;
    total += value;
    squares += value * value;
    if (value > most) most = value;
  }
  void end() {
    if (!n) return;
    const double count = static_cast<double>(n);
    mean = static_cast<double>(total) / count;
    spread = std::sqrt(static_cast<double>(n * squares - total * total)) / count;
  }
};

inline double ratio(i64 part, i64 whole) {
  return static_cast<double>(part) / static_cast<double>(whole > 1 ? whole : 1);
}

// How many different values there are, of the first n.
inline i64 different(const Room& room, i64 n) {
  i64 slots = 64;
  while (slots < 4 * n && slots < room.slots) slots *= 2;
  std::memset(room.table, 0, static_cast<std::size_t>(slots) * sizeof(u64));
  i64 found = 0;
  for (i64 i = 0; i < n; ++i) {
    const u64 key = room.words[i] | 1;  // 0 is an empty slot
    i64 at = static_cast<i64>(key >> 32) & (slots - 1);
    while (room.table[at] && room.table[at] != key) at = (at + 1) & (slots - 1);
    found += !room.table[at];
    room.table[at] = key;
  }
  return found;
}

// Counts over the lines after the first, taken line by line.
struct Rest {
  i64 lines = 0, pairs = 0, digits = 0, capitals = 0, last = 0;
  double shared = 0.0, most = 0.0;
  u64* before = nullptr;
  i64 many = 0;

  // The words of the next line, which are put in order where they are.
  void line(u64* words, i64 n, bool digit, bool capital) {
    std::sort(words, words + n);
    n = std::unique(words, words + n) - words;
    if (lines) {
      i64 both = 0;
      for (i64 i = 0, j = 0; i < many && j < n;) {
        both += before[i] == words[j];
        const bool less = before[i] < words[j], more = words[j] < before[i];
        i += !more;
        j += !less;
      }
      const double share = ratio(both, many + n - both);
      shared += share;
      if (share > most) most = share;
      ++pairs;
    }
    before = words;
    many = last = n;
    ++lines;
    digits += digit;
    capitals += capital;
  }
};

// The 44 numbers of a text.
inline void read(const Room& room, const u8* text, i64 size, float* out) {
  i64 tally[256] = {0};
  for (i64 i = 0; i < size; ++i) ++tally[text[i]];
  const auto count = [&tally](unsigned char byte) { return tally[byte]; };
  i64 characters = 0, beyond = 0, digits = 0, capitals = 0, signs = 0;
  for (int byte = 0; byte < 256; ++byte) {
    const unsigned kind = room.kind[byte];
    const i64 n = tally[byte];
    characters += byte < 0x80 || byte >= 0xC0 ? n : 0;
    beyond += byte >= 0xC0 ? n : 0;
    digits += kind & DIGIT ? n : 0;
    capitals += kind & CAPITAL ? n : 0;
    signs += byte > 32 && byte < 127 && !(kind & (LETTER | DIGIT)) ? n : 0;
  }

  Spread word, line, rest_line;
  Rest rest;
  i64 words = 0, long_ = 0, short_ = 0, numbers = 0, longest = 0, sentences = 1, first = 0;
  i64 opened = -1, closed = -1, run = 0;  // bytes of the line: first and last that are no space
  i64 from = 0, copied = 0;               // first word of the line; words put in order so far
  u64 hash = 0;
  i64 letters = 0;
  bool digit = false, capital = false;
  unsigned before = SPACE;
  u8 end = 0;
  for (i64 i = 0; i <= size; ++i) {
    const u8 byte = i < size ? text[i] : u8{'\n'};
    const unsigned kind = room.kind[byte];
    if (kind & LETTER) {
      hash = (hash ^ (kind & CAPITAL ? byte | 0x20u : byte)) * FACTOR;
      hash ^= hash >> 29;
      ++letters;
    } else if (letters) {
      room.words[words] = hash;
      room.lengths[words++] = static_cast<i32>(letters);
      word.add(letters);
      long_ += letters >= 9;
      short_ += letters <= 3;
      hash = 0;
      letters = 0;
    }
    if (kind & DIGIT) {
      ++run;
      digit = true;
    } else if (run) {
      ++numbers;
      if (run > longest) longest = run;
      run = 0;
    }
    if (!(kind & SPACE)) {
      if (opened < 0) opened = i;
      closed = i;
      // what opens a line has a space before it that is not the line's
      capital |= (kind & CAPITAL) && (before & SPACE) && i > opened;
    } else if (i > 0 && i < size) {
      const u8 last = text[i - 1];
      sentences += last == '.' || last == '!' || last == '?';
    }
    if (byte == '\n' && opened >= 0) {
      const i64 length = closed - opened + 1;
      line.add(length);
      if (line.n == 1) {
        first = length;
        end = text[closed];
      } else {
        rest_line.add(length);
        u64* const own = room.lines + copied;
        std::copy(room.words + from, room.words + words, own);
        rest.line(own, words - from, digit, capital);
        copied += words - from;
      }
    }
    if (byte == '\n') {
      opened = closed = -1;
      from = words;
      digit = capital = false;
    }
    before = kind;
  }
  word.end();
  line.end();
  rest_line.end();
  double quartile = 0.0;
  if (words) {
    i32* const at = room.lengths + 3 * words / 4;
    std::nth_element(room.lengths, at, room.lengths + words);
    quartile = *at;
  }
  const i64 fresh = different(room, words);
  const auto at_least_one = [](double value) { return value > 1.0 ? value : 1.0; };
  const auto number = [](i64 value) { return static_cast<double>(value); };
  const double columns[COLUMNS] = {
      number(characters),
      number(words),
      number(line.n),
      number(first),
      line.mean,
      line.spread / at_least_one(line.mean),
      rest_line.mean,
      rest_line.spread / at_least_one(rest_line.mean),
      number(rest_line.most) / at_least_one(rest_line.mean),
      word.mean,
      word.spread,
      number(word.most),
      quartile,
      ratio(long_, words),
      ratio(short_, words),
      ratio(fresh, words),
      ratio(digits, characters),
      ratio(capitals, characters),
      ratio(signs, characters),
      ratio(beyond, characters),
      number(numbers),
      ratio(numbers, words),
      number(longest),
      ratio(count('=') + count('+') + count('*') + count('/') + count('^') + count('<') +
                count('>') + count('\\'),
            characters),
      ratio(count('('), characters),
      ratio(count('$'), characters),
      ratio(count('%'), characters),
      ratio(count('"'), characters),
      ratio(count(','), words),
      ratio(count('_'), characters),
      number(count('?')),
      ratio(count('\''), characters),
      ratio(count(';'), characters),
      ratio(count('-'), characters),
      number(sentences),
      number(characters) / number(sentences),
      number(end == '?'),
      number(end == '.'),
      number(end == ':'),
      rest.lines > 0 ? rest.shared / number(rest.pairs > 1 ? rest.pairs : 1) : 0.0,
      rest.most,
      rest.lines > 0 ? number(rest.digits) / number(rest.lines) : 0.0,
      rest.lines > 0 ? number(rest.capitals) / number(rest.lines) : 0.0,
      rest.lines > 0 ? ratio(rest.last, words) : 0.0,
  };
  for (int j = 0; j < COLUMNS; ++j) out[j] = static_cast<float>(columns[j]);
}

}  // namespace form
