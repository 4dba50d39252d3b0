#include "observe/verify.h"

#include "alloc/central.h"
#include "base/check.h"
#include "base/list.h"
#include "gc/ledger.h"
#include "gc/special.h"
#include "gc/stacks.h"
#include "mutator/mutator.h"
#include "page/pageheap.h"
#include "span/guard.h"
#include "span/mark_bits.h"
#include "span/object.h"
#include "span/page_info.h"
#include "span/sticky.h"

static void verify_pages(const struct span *span) {
  for (size_t i = 0; i < span->page_count; i++) {
    size_t page = arena_page_of(&heap_arena, span->start) + i;
    uint16_t info = heap_arena.page_info[page];
    CHECK(heap_arena.spans[page] == span, "verify: page %zu of span %p is not in its name", i, (void *)span->start);
    CHECK(page_info_class(info) == span->size_class && page_info_scan(info) == kind_table[span->kind].scan &&
              (page_info_index(info) == i || page_info_index(info) == PAGE_INDEX_MAX),
          "verify: page %zu of span %p has information %#x", i, (void *)span->start, info);
  }
}

/* Every bit stands at the start of a slot. */
static void verify_bits(const struct span *span, unsigned side) {
  size_t slot_bytes = span_slot_bytes(span);
  FOR_EACH_BIT (bit, side, span->start, span_end(span)) {
    size_t offset = bit - span->start;
    CHECK(offset % slot_bytes == 0 && offset / slot_bytes < span->slot_count,
          "verify: a bit at %p, in the middle of a slot of span %p", (void *)bit, (void *)span->start);
  }
}

static void count_span(const struct span *span, unsigned side, struct tally *tally) {
  enum tally_row row = tally_row_of(span->kind);
  size_t objects = mark_bits_count(&heap_arena, side, span->start, span_bytes(span));
  tally->objects[row][span->size_class] += objects;
  if (span->size_class == 0) tally->large_bytes[row] += objects * span_bytes(span);
}

/* A cycle may be under way, whose driver has lent its lock: then marks are what it has marked so far. */
static bool is_marking(void) { return atomic_load_relaxed(&span_marking); }

/* Between cycles: marks are those of old objects. */
static void verify_marks(const struct span *span, struct tally *old) {
  if (!sticky_marks) {
    CHECK(!mark_bits_any(&heap_arena, mark_side(), span->start, span_bytes(span)), "verify: swept span %p has marks",
          (void *)span->start);
    return;
  }
  CHECK(!sticky_forgets_born || !mark_bits_any(&heap_arena, ARENA_BORN, span->start, span_bytes(span)),
        "verify: swept span %p has slots that were born black", (void *)span->start);
  verify_bits(span, mark_side());
  FOR_EACH_BIT (bit, mark_side(), span->start, span_end(span))
    CHECK(mark_bit_get(&heap_arena, alloc_side(), bit), "verify: slot %p is free and marked as old", (void *)bit);
  count_span(span, mark_side(), old);
}

static void verify_span(const struct span *span, struct tally *old) {
  uint32_t behind = span_generation_now() - span->sweep_generation;
  CHECK(behind == 0 || behind == 2, "verify: span %p is at sweep generation %u of %u", (void *)span->start,
        span->sweep_generation, span_generation_now());
  CHECK(kind_exists(span->kind), "verify: span %p has kind %u", (void *)span->start, span->kind);
  verify_pages(span);
  verify_bits(span, alloc_side());
  if (guard_active) guard_verify_stw(span);
  if (behind == 0 && !is_marking()) verify_marks(span, old);
}

static void verify_list(const struct list *list, uint32_t generation) {
  size_t count = 0;
  for (const struct link *link = list->first; link != NULL; link = link->next, count++) {
    const struct span *span = CONTAINER_OF(link, struct span, link);
    CHECK(link->list == list && span_state(span) == SPAN_IN_USE && !span->in_cache,
          "verify: span %p does not belong on its list", (void *)span->start);
    CHECK(span->sweep_generation == generation, "verify: span %p is on a list of generation %u but at %u",
          (void *)span->start, generation, span->sweep_generation);
  }
  CHECK(count == list->count, "verify: a list of %zu spans counts %zu", count, list->count);
}

static void verify_centrals(void) {
  unsigned swept = central_swept_side();
  for (unsigned kind = 0; kind < MIDDEN_KINDS_MAX; kind++) {
    for (unsigned i = 0; central_if_exists(kind, 0) != NULL && i < SIZE_CLASS_COUNT; i++) {
      const struct central *central = central_if_exists(kind, i);
      verify_list(&central->partial[swept], span_generation_now());
      verify_list(&central->full[swept], span_generation_now());
      verify_list(&central->partial[!swept], span_generation_now() - 2);
      verify_list(&central->full[!swept], span_generation_now() - 2);
    }
  }
}

/* The slots of a window belong to the cache: their allocation bits are set. */
static void verify_bin(const struct cache_row *row, unsigned size_class) {
  const struct cache_bin *bin = &row->bins[size_class];
  CHECK(cache_bin_is_empty(bin) || (row->used[size_class / 64] >> size_class % 64 & 1) != 0,
        "verify: a bin of size class %u that counts as empty has a window at %p, span %p", size_class,
        (const void *)bin->next, (void *)bin->span);
  for (const char *slot = bin->next; slot < bin->limit; slot += size_class_bytes[size_class])
    CHECK(mark_bit_get(&heap_arena, alloc_side(), (uintptr_t)slot), "verify: slot %p of a window is free",
          (const void *)slot);
}

static void verify_caches(void) {
  for (struct link *link = mutator_list.first; link != NULL; link = link->next) {
    struct cache *cache = &mutator_from(link)->cache;
    for (unsigned kind = 0; kind < kind_count; kind++) {
      const struct cache_row *row = cache_row_of(cache, kind);
      for (unsigned i = 1; row != NULL && i < SIZE_CLASS_COUNT; i++) verify_bin(row, i);
    }
  }
}

/* ---- the ledger against the bits ---- */

static void uncount_window(struct cache *cache, struct cache_bin *bin, unsigned kind, unsigned size_class,
                           void *living) {
  (void)cache;
  uint64_t *objects = &((struct tally *)living)->objects[tally_row_of(kind)][size_class];
  *objects -= (size_t)(bin->limit - bin->next) / size_class_bytes[size_class];
}

static void compare(const char *what, const struct tally *bits, const struct tally *counts) {
  for (unsigned row = 0; row < TALLY_ROWS; row++) {
    for (unsigned i = 0; i < SIZE_CLASS_COUNT; i++)
      CHECK(bits->objects[row][i] == counts->objects[row][i],
            "verify: %llu objects of class %u %s by their bits (row %u), %llu by the counts",
            (unsigned long long)bits->objects[row][i], i, what, row, (unsigned long long)counts->objects[row][i]);
    CHECK(bits->large_bytes[row] == counts->large_bytes[row],
          "verify: %llu bytes of large objects %s, %llu by the counts", (unsigned long long)bits->large_bytes[row],
          what, (unsigned long long)counts->large_bytes[row]);
  }
}

/* What the bits say of each class is what was allocated, less what was freed. */
static void verify_ledger(struct tally *living) {
  struct ledger ledger;
  struct tally expected;
  for (struct link *link = mutator_list.first; link != NULL; link = link->next)
    cache_each_bin(&mutator_from(link)->cache, uncount_window, living);
  ledger_read_locked(&ledger);
  ledger_living(&ledger, &expected);
  compare("live", living, &expected);
}

static void verify_old(const struct tally *old) {
  struct tally counted = {0};
  sticky_add_to(&counted);
  compare("are old", old, &counted);
}

/* Chunk by chunk, as the pages ascend: how many spans with root objects, and with cells, begin in it. */
struct chunk_count {
  size_t chunk, root_spans, cell_spans;
};

static void end_chunk(const struct chunk_count *count) {
  const struct arena_chunk *chunk = &heap_arena.chunks[count->chunk];
  CHECK(chunk->root_spans == count->root_spans && chunk->cell_spans == count->cell_spans,
        "verify: %zu spans with root objects and %zu with cells begin in chunk %zu, which counts %u and %u",
        count->root_spans, count->cell_spans, count->chunk, chunk->root_spans, chunk->cell_spans);
}

static void count_in_chunk(struct chunk_count *count, const struct span *span) {
  size_t chunk = (span->start - heap_arena.start) >> CHUNK_SHIFT;
  for (; count->chunk < chunk; *count = (struct chunk_count){.chunk = count->chunk + 1}) end_chunk(count);
  count->root_spans += kind_table[span->kind].root;
  count->cell_spans += kind_is_cell(span->kind);
}

void verify_heap_stw(void) {
  struct chunk_count in_chunk = {0};
  struct tally living = {0}, old = {0};
  uintptr_t at = heap_arena.start;
  pageheap_verify(&heap_pages);
  for (const struct span *span; (span = arena_next_in_use_stw(&heap_arena, &at)) != NULL;) {
    verify_span(span, &old);
    count_span(span, alloc_side(), &living);
    count_in_chunk(&in_chunk, span);
  }
  if (arena_chunk_count(&heap_arena) != 0) end_chunk(&in_chunk);
  verify_centrals();
  verify_caches();
  verify_ledger(&living);
  if (!is_marking()) verify_old(&old);
  stacks_verify_stw();
  special_verify_stw();
}
