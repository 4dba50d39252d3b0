#include "span/slots.h"

#include <string.h>

#include "base/bits.h"
#include "base/check.h"
#include "base/memcheck.h"
#include "span/guard.h"
#include "span/mark_bits.h"
#include "span/page_info.h"
#include "span/size_class.h"
#include "span/sticky.h"

struct slots_spans slots_spans[SIZE_CLASS_COUNT];

static void count_span(const struct span *span, bool added) {
  struct slots_spans *spans = &slots_spans[span->size_class];
  atomic_add_relaxed(&spans->count, added ? (size_t)1 : -(size_t)1);
  atomic_add_relaxed(&spans->bytes, added ? span_bytes(span) : -span_bytes(span));
  struct arena_chunk *chunk = arena_chunk_of(&heap_arena, span->start);
  uint16_t one = (uint16_t)(added ? 1 : -1);
  if (kind_table[span->kind].root) atomic_add_relaxed(&chunk->root_spans, one);
  if (kind_is_cell(span->kind)) atomic_add_relaxed(&chunk->cell_spans, one);
}

_Static_assert(SIZE_CLASS_MAX_BYTES <= UINT16_MAX, "the bytes of a slot, and so the slots of a span, have 16 bits");

void slots_init(struct span *span, unsigned size_class, unsigned kind) {
  atomic_store_relaxed(&span->size_class, (uint8_t)size_class); /* who walks the pages may look at both */
  atomic_store_relaxed(&span->kind, (uint8_t)kind);
  span->slot_bytes_small = (uint16_t)size_class_bytes[size_class];
  span->slot_count = size_class == 0 ? 1 : size_class_slots[size_class];
  span->noted_in = 0;
  atomic_store_relaxed(&span->has_specials, kind_is_cell(kind));
  ASSERT(span->specials == NULL);
  if (UNLIKELY(guard_active)) guard_span_ready(span);
  page_info_set(&heap_arena, span);
  count_span(span, true);
}

/* The part of a span that may have bits: of a large object its start alone. */
static size_t range_bits_bytes(size_t page_count, unsigned size_class) {
  return size_class == 0 ? PAGE_BYTES : page_count << PAGE_SHIFT;
}

/* Who walks the pages may ask this of a span that is being made. */
static size_t bits_bytes(const struct span *span) {
  return range_bits_bytes(atomic_load_relaxed(&span->page_count), atomic_load_relaxed(&span->size_class));
}

bool slots_all_marked(const struct span *span) {
  return mark_bits_cover(&heap_arena, mark_side(), alloc_side(), span->start, bits_bytes(span));
}

void slots_destroy(struct span *span) {
  ASSERT(span->specials == NULL);
  page_info_clear(&heap_arena, span);
  count_span(span, false);
  mark_bits_clear(&heap_arena, 0, span->start, bits_bytes(span));
  mark_bits_clear(&heap_arena, 1, span->start, bits_bytes(span));
  sticky_clear_born(span->start, bits_bytes(span));
  memcheck_hide(span->start, span_bytes(span));
}

/* A marker reads what has an allocation bit: zeroes come before bits while one may run, which is settled for all of a critical section.
 * Else the bits come first, since to set some waits until everything that was stored before is out of the processor. */
static void take(const struct span *span, uintptr_t start, uintptr_t end, bool zeroed, bool black) {
  size_t slot_bytes = span->slot_bytes_small;
  bool is_marking = atomic_load_relaxed(&span_marking), is_cleared = zeroed && span->needs_zero;
  if (is_cleared && is_marking) memset((void *)start, 0, end - start);
  if (UNLIKELY(black)) {
    sticky_note_black(start, end, slot_bytes);
    mark_bits_set_slots(&heap_arena, mark_side(), start, end, slot_bytes);
  }
  mark_bits_set_slots(&heap_arena, alloc_side(), start, end, slot_bytes);
  if (is_cleared && !is_marking) memset((void *)start, 0, end - start);
}

bool slots_claim(struct span *span, size_t max_bytes, bool zeroed, bool black, struct slot_run *run) {
  size_t slot_bytes = span->slot_bytes_small;
  uintptr_t slots_end = span->start + span->slot_count * slot_bytes;
  uintptr_t start =
      mark_bits_next_free(&heap_arena, alloc_side(), span->start + span->free_index, slots_end, slot_bytes);
  if (start == slots_end) {
    atomic_store_release(&span->free_index, (uint32_t)(slots_end - span->start));
    return false;
  }
  uintptr_t most = min_size(start + max_size(max_bytes / slot_bytes, 1) * slot_bytes, slots_end);
  uintptr_t end = most - start > slot_bytes ? mark_bits_next(&heap_arena, alloc_side(), start, most) : most;
  take(span, start, end, zeroed, black);
  /* Pairs with the acquire in cache_free_slot; the bits that were read above were read before this. */
  atomic_store_release(&span->free_index, (uint32_t)(end - span->start));
  *run = (struct slot_run){.start = start, .end = end};
  return true;
}

/* A load first: threads that claim many share the line. */
void slots_note_root(uintptr_t slot) {
  bool *noted = &arena_chunk_of(&heap_arena, slot)->new_roots;
  if (!atomic_load_relaxed(noted)) atomic_store_relaxed(noted, true);
}

uint32_t slots_sweep(struct span *span) {
  if (UNLIKELY(guard_active)) guard_sweep(span);
  span->live_count = (uint16_t)mark_bits_count(&heap_arena, alloc_side(), span->start, bits_bytes(span));
  if (sticky_marks) {
    sticky_sweep(span, bits_bytes(span), span->live_count);
  } else {
    mark_bits_clear(&heap_arena, mark_side(), span->start, bits_bytes(span));
  }
  atomic_store_relaxed(&span->free_index, 0u);
  span->needs_zero = true;
  return span->live_count;
}

/* Where a span ends that is IN_USE and holds an address; else 0.  A span STACK may be taken back as soon as it was found, and its
 * structure describe other pages: so the range is read behind the state. */
static uintptr_t end_if_in_use(const struct span *span, uintptr_t address) {
  if (span == NULL || span_state(span) != SPAN_IN_USE) return 0;
  uintptr_t start = atomic_load_relaxed(&span->start);
  size_t bytes = (size_t)atomic_load_relaxed(&span->page_count) << PAGE_SHIFT;
  return address - start < bytes ? start + bytes : 0;
}

void slots_visit_spans(size_t chunk, slots_visit_fn *visit, void *argument) {
  uintptr_t at = heap_arena.start + chunk * CHUNK_BYTES;
  uintptr_t end = min_size(at + CHUNK_BYTES, atomic_load_acquire(&heap_arena.used));
  while (at < end) {
    const struct span *span = arena_span_of(&heap_arena, at);
    uintptr_t next = end_if_in_use(span, at);
    if (next != 0) visit(span, argument);
    at = next != 0 ? next : at + PAGE_BYTES;
  }
}

bool slots_are_all_dead(uintptr_t start, size_t page_count, unsigned size_class) {
  return !mark_bits_any(&heap_arena, alloc_side(), start, range_bits_bytes(page_count, size_class));
}
