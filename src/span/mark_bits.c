#include "span/mark_bits.h"

#include "base/bits.h"

unsigned mark_side = 1;

static struct mark_cell *cells_end(const struct arena *arena, uintptr_t start, size_t bytes) {
  return mark_cell_of(arena, start) + (bytes >> CELL_SHIFT);
}

void mark_bits_clear(const struct arena *arena, unsigned side, uintptr_t start, size_t bytes) {
  struct mark_cell *end = cells_end(arena, start, bytes);
  for (struct mark_cell *cell = mark_cell_of(arena, start); cell < end; cell++) {
    /* Most are clear; not writing them leaves their cache lines and their pages untouched. */
    if (cell->bits[side] != 0) atomic_store_relaxed(&cell->bits[side], UINT64_C(0));
  }
}

size_t mark_bits_count(const struct arena *arena, unsigned side, uintptr_t start, size_t bytes) {
  size_t count = 0;
  struct mark_cell *end = cells_end(arena, start, bytes);
  for (struct mark_cell *cell = mark_cell_of(arena, start); cell < end; cell++) count += count_bits(cell->bits[side]);
  return count;
}

bool mark_bits_any(const struct arena *arena, unsigned side, uintptr_t start, size_t bytes) {
  struct mark_cell *end = cells_end(arena, start, bytes);
  for (struct mark_cell *cell = mark_cell_of(arena, start); cell < end; cell++) {
    if (cell->bits[side] != 0) return true;
  }
  return false;
}

uintptr_t mark_bits_next(const struct arena *arena, unsigned side, uintptr_t from, uintptr_t end) {
  if (from >= end) return end;
  struct mark_cell *cell = mark_cell_of(arena, from);
  uintptr_t cell_start = round_down(from, CELL_BYTES);
  uint64_t word = atomic_load_relaxed(&cell->bits[side]) & (UINT64_MAX << (from >> GRANULE_SHIFT & 63));
  while (word == 0) {
    cell_start += CELL_BYTES;
    if (cell_start >= end) return end;
    word = atomic_load_relaxed(&(++cell)->bits[side]);
  }
  uintptr_t found = cell_start + ((uintptr_t)lowest_bit(word) << GRANULE_SHIFT);
  return found < end ? found : end;
}

/* The bits of the slots of one cell, from `slot` on; moves `slot` past them. */
static uint64_t slot_mask(uintptr_t *slot, uintptr_t end, size_t slot_bytes) {
  uintptr_t cell_end = min_size(round_down(*slot, CELL_BYTES) + CELL_BYTES, end);
  uint64_t mask = 0;
  for (; *slot < cell_end; *slot += slot_bytes) mask |= mark_mask_of(*slot);
  return mask;
}

void mark_bits_set_slots(const struct arena *arena, unsigned side, uintptr_t start, uintptr_t end, size_t slot_bytes) {
  for (uintptr_t slot = start; slot < end;) {
    struct mark_cell *cell = mark_cell_of(arena, slot);
    uint64_t mask = slot_mask(&slot, end, slot_bytes);
    atomic_or_relaxed(&cell->bits[side], mask);
  }
}

void mark_bits_clear_slots(const struct arena *arena, unsigned side, uintptr_t start, uintptr_t end,
                           size_t slot_bytes) {
  for (uintptr_t slot = start; slot < end;) {
    struct mark_cell *cell = mark_cell_of(arena, slot);
    uint64_t mask = slot_mask(&slot, end, slot_bytes);
    atomic_and_relaxed(&cell->bits[side], ~mask);
  }
}
