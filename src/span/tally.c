#include "span/tally.h"

void tally_add(struct tally *to, const struct tally *from) {
  for (unsigned row = 0; row < TALLY_ROWS; row++) {
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++) to->objects[row][i] += atomic_load_acquire(&from->objects[row][i]);
    to->large_bytes[row] += atomic_load_acquire(&from->large_bytes[row]);
  }
}

void tally_subtract(struct tally *from, const struct tally *what) {
  for (unsigned row = 0; row < TALLY_ROWS; row++) {
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
      from->objects[row][i] -= atomic_load_acquire(&what->objects[row][i]);
    from->large_bytes[row] -= atomic_load_acquire(&what->large_bytes[row]);
  }
}

uint64_t tally_row_objects(const struct tally *tally, enum tally_row row) {
  uint64_t sum = 0;
  for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++) sum += tally->objects[row][i];
  return sum;
}

uint64_t tally_row_bytes(const struct tally *tally, enum tally_row row) {
  uint64_t sum = tally->large_bytes[row];
  for (unsigned i = 1; i < SIZE_CLASS_COUNT; i++) sum += tally->objects[row][i] * size_class_bytes[i];
  return sum;
}

uint64_t tally_objects(const struct tally *tally) {
  return tally_row_objects(tally, TALLY_DATA) + tally_row_objects(tally, TALLY_SCANNED);
}

uint64_t tally_bytes(const struct tally *tally) {
  return tally_row_bytes(tally, TALLY_DATA) + tally_row_bytes(tally, TALLY_SCANNED);
}

uint64_t tally_class_objects(const struct tally *tally, unsigned size_class) {
  return tally->objects[TALLY_DATA][size_class] + tally->objects[TALLY_SCANNED][size_class];
}

uint64_t tally_large_bytes(const struct tally *tally) {
  return tally->large_bytes[TALLY_DATA] + tally->large_bytes[TALLY_SCANNED];
}
