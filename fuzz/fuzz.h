/* What the fuzz targets share: the input as a stream of decisions, and a check that stops the process.
 *
 * A target defines LLVMFuzzerTestOneInput.  libFuzzer calls it with inputs that it breeds; fuzz/standalone.c with files,
 * or with random bytes from a seed.  An input that has ended reads as zeros, so that every prefix of one is an input. */
#ifndef MIDDEN_FUZZ_FUZZ_H
#define MIDDEN_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define FUZZ_REQUIRE(condition, ...)                                         \
  do {                                                                       \
    if (!(condition)) {                                                      \
      fprintf(stderr, "FAILED %s:%d: %s: ", __FILE__, __LINE__, #condition); \
      fprintf(stderr, __VA_ARGS__);                                          \
      fputc('\n', stderr);                                                   \
      abort();                                                               \
    }                                                                        \
  } while (0)

struct fuzz_input {
  const uint8_t *next, *end;
};

static inline bool fuzz_is_empty(const struct fuzz_input *input) { return input->next == input->end; }

static inline uint8_t fuzz_byte(struct fuzz_input *input) { return fuzz_is_empty(input) ? 0 : *input->next++; }

/* The next `count` bytes as a number. */
static inline uint64_t fuzz_number(struct fuzz_input *input, unsigned count) {
  uint64_t number = 0;
  for (unsigned i = 0; i < count; i++) number = number << 8 | fuzz_byte(input);
  return number;
}

static inline size_t fuzz_below(struct fuzz_input *input, size_t bound) {
  return (size_t)fuzz_number(input, bound > 256 ? 2 : 1) % bound;
}

/* A number below 2^bits, of which small ones are as likely as large ones: a width, then that many bits. */
static inline size_t fuzz_size(struct fuzz_input *input, unsigned bits) {
  unsigned width = fuzz_byte(input) % (bits + 1);
  return (size_t)fuzz_number(input, (width + 7) / 8) & (((size_t)1 << width) - 1);
}

#endif
