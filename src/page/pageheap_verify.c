/* The page heap's verifier: walks the arena span by span and compares with what the heap has counted and filed. */
#include "base/check.h"
#include "page/pageheap.h"
#include "page/residency.h"

struct walk {
  const struct pageheap *heap;
  struct pageheap_stats found;
  bool last_was_free;
  size_t chunk;                                /* the one that the walk is in */
  size_t chunk_in_use_pages, chunk_idle_pages; /* found in it so far */
};

static struct span *entry_at(const struct pageheap *heap, uintptr_t address) {
  return heap->arena->spans[arena_page_of(heap->arena, address)];
}

#define SPAN_CHECK(span, condition)                                                                         \
  CHECK(condition, "span %p at %p, %zu pages, %s: broken: %s", (const void *)(span), (void *)(span)->start, \
        (span)->page_count, span_state_name(span_state(span)), #condition)

/* Everything of a chunk has been seen: is it what was counted? */
static void verify_chunk(const struct walk *walk) {
  const struct arena_chunk *chunk = &walk->heap->arena->chunks[walk->chunk];
  CHECK(chunk->in_use_pages == walk->chunk_in_use_pages && chunk->idle_pages == walk->chunk_idle_pages,
        "chunk %zu: counted %u pages in use, %u idle; found %zu, %zu", walk->chunk, chunk->in_use_pages,
        chunk->idle_pages, walk->chunk_in_use_pages, walk->chunk_idle_pages);
  CHECK(!chunk->tables_released || (chunk->in_use_pages == 0 && chunk->idle_pages == 0),
        "chunk %zu holds pages without mark bits", walk->chunk);
}

static void count_pages(struct walk *walk, const struct span *span, bool is_free) {
  const struct arena *arena = walk->heap->arena;
  for (uintptr_t page = span->start; page < span_end(span); page += PAGE_BYTES) {
    size_t chunk = (page - arena->start) >> CHUNK_SHIFT;
    if (chunk != walk->chunk) {
      verify_chunk(walk);
      walk->chunk_in_use_pages = walk->chunk_idle_pages = 0;
    }
    walk->chunk = chunk;
    walk->chunk_in_use_pages += !is_free;
    walk->chunk_idle_pages += is_free && *residency_at(arena, page) == PAGE_RESIDENT;
  }
}

static void verify_free(struct walk *walk, const struct span *span) {
  const struct pageheap *heap = walk->heap;
  size_t released = residency_count(heap->arena, span->start, span->page_count, PAGE_RELEASED);
  size_t fresh = residency_count(heap->arena, span->start, span->page_count, PAGE_FRESH);
  SPAN_CHECK(span, !walk->last_was_free);
  SPAN_CHECK(span, entry_at(heap, span_end(span) - PAGE_BYTES) == span);
  SPAN_CHECK(span, span->released_pages == released + fresh);
  SPAN_CHECK(span, span->needs_zero == (released + fresh < span->page_count));
  SPAN_CHECK(span, span->release_end >= span->start && span->release_end <= span_end(span));
  if (span->release_end < span_end(span) && heap->release_unit_bytes == PAGE_BYTES) {
    size_t pages_above = (span_end(span) - span->release_end) >> PAGE_SHIFT;
    SPAN_CHECK(span, residency_count(heap->arena, span->release_end, pages_above, PAGE_RESIDENT) == 0);
  }
  if (heap->release_unit_bytes == PAGE_BYTES) SPAN_CHECK(span, freeset_age_holds(span) == span->needs_zero);
  walk->found.idle_bytes += span_bytes(span);
  walk->found.released_bytes += released << PAGE_SHIFT;
  walk->found.fresh_bytes += fresh << PAGE_SHIFT;
  walk->found.free_spans++;
}

static void verify_owned(struct walk *walk, const struct span *span) {
  const struct pageheap *heap = walk->heap;
  for (uintptr_t page = span->start; page < span_end(span); page += PAGE_BYTES) {
    SPAN_CHECK(span, entry_at(heap, page) == span);
  }
  SPAN_CHECK(span, residency_count(heap->arena, span->start, span->page_count, PAGE_RESIDENT) == span->page_count);
  SPAN_CHECK(span, span->age.list == NULL);
  if (span_state(span) == SPAN_IN_USE) {
    walk->found.in_use_bytes += span_bytes(span);
    walk->found.in_use_spans++;
  } else {
    walk->found.stack_bytes += span_bytes(span);
    walk->found.stack_spans++;
  }
}

static void verify_span(struct walk *walk, uintptr_t address) {
  const struct span *span = entry_at(walk->heap, address);
  CHECK(span != NULL && span->start == address, "no span starts at %p, where the one before it ends", (void *)address);
  SPAN_CHECK(span, span->page_count > 0 && span_bytes(span) <= walk->heap->arena->used - address);
  SPAN_CHECK(span, span_state(span) != SPAN_DEAD);
  bool is_free = span_state(span) == SPAN_FREE;
  if (is_free) {
    verify_free(walk, span);
  } else {
    verify_owned(walk, span);
  }
  count_pages(walk, span, is_free);
  walk->last_was_free = is_free;
}

static void verify_counters(const struct pageheap *heap, const struct pageheap_stats *found) {
  const struct pageheap_stats *stats = &heap->stats;
  size_t used_bytes = heap->arena->used - heap->arena->start;
  CHECK(stats->system_bytes == used_bytes, "page heap: %zu bytes counted, %zu in the arena", stats->system_bytes,
        used_bytes);
  CHECK(stats->in_use_bytes == found->in_use_bytes && stats->stack_bytes == found->stack_bytes,
        "page heap: counted %zu bytes in use, %zu of stacks; found %zu, %zu", stats->in_use_bytes, stats->stack_bytes,
        found->in_use_bytes, found->stack_bytes);
  CHECK(stats->in_use_spans == found->in_use_spans && stats->stack_spans == found->stack_spans,
        "page heap: counted %zu spans in use, %zu stacks; found %zu, %zu", stats->in_use_spans, stats->stack_spans,
        found->in_use_spans, found->stack_spans);
  CHECK(stats->idle_bytes == found->idle_bytes && stats->released_bytes == found->released_bytes &&
            stats->fresh_bytes == found->fresh_bytes,
        "page heap: counted %zu bytes idle, %zu released, %zu fresh; found %zu, %zu, %zu", stats->idle_bytes,
        stats->released_bytes, stats->fresh_bytes, found->idle_bytes, found->released_bytes, found->fresh_bytes);
  CHECK(heap->free.count == found->free_spans, "page heap: %zu free spans filed, %zu found", heap->free.count,
        found->free_spans);
}

static void verify_locked(const struct pageheap *heap) {
  struct walk walk = {.heap = heap};
  freeset_verify(&heap->free);
  for (uintptr_t address = heap->arena->start; address < heap->arena->used;
       address += span_bytes(entry_at(heap, address))) {
    verify_span(&walk, address);
  }
  if (heap->arena->used != heap->arena->start) verify_chunk(&walk);
  verify_counters(heap, &walk.found);
}

void pageheap_verify(struct pageheap *heap) {
  lock_acquire(&heap->lock);
  verify_locked(heap);
  lock_release(&heap->lock);
}
