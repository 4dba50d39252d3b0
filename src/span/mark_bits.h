/* Mark bits and allocation bits: two tables with a bit for every 16 bytes of the arena, of which those at slot starts
 * are used.  (Where a `side` is asked for, a third table of that shape may be meant too: ARENA_BORN, see span/sticky.h.)  A page's bits fill one cache line of each table.
 *
 * Which table holds the marks is one global number, `mark_side`; the other holds the allocation bits.  At the end of a
 * mark phase the sides trade roles: the marks become the allocation bits without being copied, and what was the
 * allocation bits is cleared span by span as spans are swept, to take the next cycle's marks.
 *
 *     allocation bit set    the slot holds an object, or was handed to a thread's cache for one
 *     mark bit set          the object was reached in this cycle
 *
 * Writers.  Allocation bits: the thread that owns a span's run sets them, any thread that frees an object clears one, so
 * both are atomic where a word has slots of several owners.  Mark bits: markers, atomic when several mark at once; the
 * sweeper of the span.
 *
 * Orders.  To clear a slot's allocation bit is a release, and who claims a free slot has acquired the bit: what was done to
 * the memory before it became free, the program's last stores among them, comes before what is done to it next. */
#ifndef MIDDEN_SPAN_MARK_BITS_H
#define MIDDEN_SPAN_MARK_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"
#include "page/arena.h"

enum {
  GRANULE_SHIFT = 4, /* objects start at multiples of 16 bytes */
  GRANULE_BYTES = 1 << GRANULE_SHIFT,
  MARK_WORD_SHIFT = GRANULE_SHIFT + 6, /* a word covers 64 granules, 1 KiB */
  MARK_WORD_BYTES = 1 << MARK_WORD_SHIFT
};

/* The side that holds marks; changes only while the world is stopped, or no thread is in a critical section.  Atomic: who
 * is in none may ask all the same (object_find). */
extern unsigned mark_side_now;

static inline unsigned mark_side(void) { return atomic_load_relaxed(&mark_side_now); }
static inline unsigned alloc_side(void) { return mark_side() ^ 1; }

static inline uint64_t *mark_word_of(const struct arena *arena, unsigned side, uintptr_t address) {
  return arena->mark_bits[side] + ((address - arena->start) >> MARK_WORD_SHIFT);
}

static inline uint64_t mark_mask_of(uintptr_t address) { return UINT64_C(1) << (address >> GRANULE_SHIFT & 63); }

static inline bool mark_bit_get(const struct arena *arena, unsigned side, uintptr_t address) {
  return (atomic_load_relaxed(mark_word_of(arena, side, address)) & mark_mask_of(address)) != 0;
}

/* Both return whether the bit was set before, and are releases. */
static inline bool mark_bit_set(const struct arena *arena, unsigned side, uintptr_t address) {
  uint64_t mask = mark_mask_of(address);
  return (atomic_or_release(mark_word_of(arena, side, address), mask) & mask) != 0;
}

static inline bool mark_bit_clear(const struct arena *arena, unsigned side, uintptr_t address) {
  uint64_t mask = mark_mask_of(address);
  return (atomic_and_release(mark_word_of(arena, side, address), ~mask) & mask) != 0;
}

/* These take whole pages.  Copying makes `side` what the other one is. */
void mark_bits_copy(const struct arena *arena, unsigned side, uintptr_t start, size_t bytes);
void mark_bits_clear(const struct arena *arena, unsigned side, uintptr_t start, size_t bytes);

/* Copying with the exception of what is set in `table`, which is cleared; returns how many bits that left out. */
size_t mark_bits_take(const struct arena *arena, unsigned side, unsigned table, uintptr_t start, size_t bytes);

size_t mark_bits_count(const struct arena *arena, unsigned side, uintptr_t start, size_t bytes);
bool mark_bits_any(const struct arena *arena, unsigned side, uintptr_t start, size_t bytes);

/* Whether each bit that is set in side `other` is set in `side`. */
bool mark_bits_cover(const struct arena *arena, unsigned side, unsigned other, uintptr_t start, size_t bytes);

/* The first address in [from, end) whose bit is set, or `end`.  An acquire of those before it. */
uintptr_t mark_bits_next(const struct arena *arena, unsigned side, uintptr_t from, uintptr_t end);

/* A loop over the addresses in [from, end) whose bits are set in a side of the heap's; mark_bits_next for each. */
#define FOR_EACH_BIT(address, side, from, end)                                                            \
  for (uintptr_t address##_end = (end), address = mark_bits_next(&heap_arena, side, from, address##_end); \
       address < address##_end; address = mark_bits_next(&heap_arena, side, address + GRANULE_BYTES, address##_end))

/* The first slot in [from, end) whose bit is not set, or `end`; slots start `slot_bytes` apart, the first at `from`.  An
 * acquire of the bits up to it. */
uintptr_t mark_bits_next_free(const struct arena *arena, unsigned side, uintptr_t from, uintptr_t end,
                              size_t slot_bytes);

/* Set or clear the bits of the slots in [start, end), `slot_bytes` apart; releases.  Two return how many were set before.  While
 * mark_bits_set_slots runs nobody clears bits of these slots: they are free, or the caller's own. */
void mark_bits_set_slots(const struct arena *arena, unsigned side, uintptr_t start, uintptr_t end, size_t slot_bytes);
size_t mark_bits_count_and_set_slots(const struct arena *arena, unsigned side, uintptr_t start, uintptr_t end,
                                     size_t slot_bytes);
size_t mark_bits_clear_slots(const struct arena *arena, unsigned side, uintptr_t start, uintptr_t end,
                             size_t slot_bytes);

#endif
