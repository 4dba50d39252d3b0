#include "span/mark_bits.h"

#include "base/bits.h"

unsigned mark_side_now = 1;

void mark_bits_clear(const struct arena *arena, unsigned side, uintptr_t start, size_t bytes) {
  uint64_t *end = mark_word_of(arena, side, start) + (bytes >> MARK_WORD_SHIFT);
  for (uint64_t *word = mark_word_of(arena, side, start); word < end; word++) {
    /* Many are clear; not writing them leaves their cache lines and their pages untouched. */
    if (atomic_load_relaxed(word) != 0) atomic_store_relaxed(word, UINT64_C(0));
  }
}

void mark_bits_copy(const struct arena *arena, unsigned side, uintptr_t start, size_t bytes) {
  const uint64_t *from = mark_word_of(arena, side ^ 1, start);
  uint64_t *end = mark_word_of(arena, side, start) + (bytes >> MARK_WORD_SHIFT);
  for (uint64_t *word = mark_word_of(arena, side, start); word < end; word++, from++) {
    uint64_t bits = atomic_load_relaxed(from);
    if (atomic_load_relaxed(word) != bits) atomic_store_relaxed(word, bits);
  }
}

size_t mark_bits_take(const struct arena *arena, unsigned side, unsigned table, uintptr_t start, size_t bytes) {
  uint64_t *to = mark_word_of(arena, side, start), *without = mark_word_of(arena, table, start);
  const uint64_t *from = mark_word_of(arena, side ^ 1, start);
  size_t left_out = 0;
  for (size_t i = 0; i < bytes >> MARK_WORD_SHIFT; i++) {
    uint64_t bits = atomic_load_relaxed(&from[i]), exceptions = atomic_load_relaxed(&without[i]);
    if (exceptions != 0) {
      atomic_store_relaxed(&without[i], UINT64_C(0));
      left_out += count_bits(bits & exceptions);
      bits &= ~exceptions;
    }
    if (atomic_load_relaxed(&to[i]) != bits) atomic_store_relaxed(&to[i], bits);
  }
  return left_out;
}

size_t mark_bits_count(const struct arena *arena, unsigned side, uintptr_t start, size_t bytes) {
  size_t count = 0;
  const uint64_t *end = mark_word_of(arena, side, start) + (bytes >> MARK_WORD_SHIFT);
  for (const uint64_t *word = mark_word_of(arena, side, start); word < end; word++) {
    uint64_t bits = atomic_load_relaxed(word);
    if (bits != 0) count += count_bits(bits); /* a loop, where the processor's instruction may not be relied on */
  }
  return count;
}

bool mark_bits_any(const struct arena *arena, unsigned side, uintptr_t start, size_t bytes) {
  const uint64_t *end = mark_word_of(arena, side, start) + (bytes >> MARK_WORD_SHIFT);
  for (const uint64_t *word = mark_word_of(arena, side, start); word < end; word++) {
    if (atomic_load_relaxed(word) != 0) return true;
  }
  return false;
}

bool mark_bits_cover(const struct arena *arena, unsigned side, unsigned other, uintptr_t start, size_t bytes) {
  const uint64_t *word = mark_word_of(arena, side, start), *what = mark_word_of(arena, other, start);
  for (size_t i = 0; i < bytes >> MARK_WORD_SHIFT; i++) {
    if ((atomic_load_relaxed(&what[i]) & ~atomic_load_relaxed(&word[i])) != 0) return false;
  }
  return true;
}

uintptr_t mark_bits_next(const struct arena *arena, unsigned side, uintptr_t from, uintptr_t end) {
  if (from >= end) return end;
  const uint64_t *word = mark_word_of(arena, side, from);
  uintptr_t word_start = round_down(from, MARK_WORD_BYTES);
  uint64_t bits = atomic_load_acquire(word) & (UINT64_MAX << (from >> GRANULE_SHIFT & 63));
  while (bits == 0) {
    word_start += MARK_WORD_BYTES;
    if (word_start >= end) return end;
    bits = atomic_load_acquire(++word);
  }
  uintptr_t found = word_start + ((uintptr_t)lowest_bit(bits) << GRANULE_SHIFT);
  return found < end ? found : end;
}

/* The bits of a word in which every `slot_bytes` a slot starts, the first of them at bit 0. */
static uint64_t slot_pattern(size_t slot_bytes) {
  uint64_t pattern = 1;
  for (size_t stride = slot_bytes >> GRANULE_SHIFT; stride < 64; stride *= 2) pattern |= pattern << stride;
  return pattern;
}

/* The bits of the slots in one word, from `slot` on; moves `slot` past them. */
static uint64_t slot_mask(uint64_t pattern, uintptr_t *slot, uintptr_t end, size_t slot_bytes) {
  uintptr_t word_start = round_down(*slot, MARK_WORD_BYTES);
  uint64_t mask = pattern << (*slot >> GRANULE_SHIFT & 63);
  if (end - word_start < MARK_WORD_BYTES) mask &= (UINT64_C(1) << ((end - word_start) >> GRANULE_SHIFT)) - 1;
  *slot = word_start + ((uintptr_t)highest_bit(mask) << GRANULE_SHIFT) + slot_bytes;
  return mask;
}

uintptr_t mark_bits_next_free(const struct arena *arena, unsigned side, uintptr_t from, uintptr_t end,
                              size_t slot_bytes) {
  uint64_t pattern = slot_pattern(slot_bytes);
  for (uintptr_t slot = from; slot < end;) {
    uintptr_t word_start = round_down(slot, MARK_WORD_BYTES);
    uint64_t bits = atomic_load_acquire(mark_word_of(arena, side, slot));
    uint64_t free = slot_mask(pattern, &slot, end, slot_bytes) & ~bits;
    if (free != 0) return word_start + ((uintptr_t)lowest_bit(free) << GRANULE_SHIFT);
  }
  return end;
}

void mark_bits_set_slots(const struct arena *arena, unsigned side, uintptr_t start, uintptr_t end, size_t slot_bytes) {
  uint64_t pattern = slot_pattern(slot_bytes);
  for (uintptr_t slot = start; slot < end;) {
    uint64_t *word = mark_word_of(arena, side, slot);
    uintptr_t word_start = round_down(slot, MARK_WORD_BYTES);
    bool has_first = slot - word_start < slot_bytes;
    uint64_t mask = slot_mask(pattern, &slot, end, slot_bytes);
    if (has_first && slot - word_start >= MARK_WORD_BYTES) {
      /* All slots of the word: nobody else has business there, and nothing waits for the zeroing of the slots to be out. */
      atomic_store_release(word, mask);
    } else {
      atomic_or_release(word, mask);
    }
  }
}

size_t mark_bits_count_and_set_slots(const struct arena *arena, unsigned side, uintptr_t start, uintptr_t end,
                                     size_t slot_bytes) {
  size_t before = 0;
  uint64_t pattern = slot_pattern(slot_bytes);
  for (uintptr_t slot = start; slot < end;) {
    uint64_t *word = mark_word_of(arena, side, slot);
    uint64_t mask = slot_mask(pattern, &slot, end, slot_bytes);
    before += count_bits(atomic_or_release(word, mask) & mask);
  }
  return before;
}

size_t mark_bits_clear_slots(const struct arena *arena, unsigned side, uintptr_t start, uintptr_t end,
                             size_t slot_bytes) {
  size_t before = 0;
  uint64_t pattern = slot_pattern(slot_bytes);
  for (uintptr_t slot = start; slot < end;) {
    uint64_t *word = mark_word_of(arena, side, slot);
    uint64_t mask = slot_mask(pattern, &slot, end, slot_bytes);
    before += count_bits(atomic_and_release(word, ~mask) & mask);
  }
  return before;
}
