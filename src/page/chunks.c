#include "page/chunks.h"

#include "base/bits.h"
#include "base/check.h"
#include "meta/persist.h"
#include "page/residency.h"

enum { CHUNK_MARK_BITS_BYTES = CHUNK_PAGES * MARK_BITS_PAGE_BYTES };

/* The pages of a run from `start` that lie in one chunk. */
static size_t pages_in_chunk(const struct arena *arena, uintptr_t start, size_t pages) {
  size_t rest = CHUNK_PAGES - arena_page_of(arena, start) % CHUNK_PAGES;
  return min_size(rest, pages);
}

/* Who touches one chunk's bits brings the memory of its whole unit back, in the worst case. */
static void tables_return(struct pageheap *heap, size_t chunk) {
  struct arena *arena = heap->arena;
  size_t first, end, count = 0;
  arena_mark_bits_unit(arena, chunk, &first, &end);
  end = min_size(end, arena_chunk_count(arena));
  for (size_t i = first; i < end; i++) {
    count += arena->chunks[i].tables_released;
    arena->chunks[i].tables_released = false;
  }
  heap->stats.tables_released_bytes -= count * arena_chunk_bits_bytes(arena);
  persist_charge(PERSIST_BITS, (ptrdiff_t)(count * arena_chunk_bits_bytes(arena)));
}

void chunks_note_claimed(struct pageheap *heap, uintptr_t start, size_t pages, bool all_resident) {
  while (pages > 0) {
    struct arena_chunk *chunk = arena_chunk_of(heap->arena, start);
    size_t count = pages_in_chunk(heap->arena, start, pages);
    atomic_store_relaxed(&chunk->in_use_pages, (uint16_t)(chunk->in_use_pages + count));
    if (chunk->idle_pages != 0) {
      size_t resident = all_resident ? count : residency_count(heap->arena, start, count, PAGE_RESIDENT);
      ASSERT(resident <= chunk->idle_pages);
      chunk->idle_pages = (uint16_t)(chunk->idle_pages - resident);
    }
    if (UNLIKELY(chunk->tables_released)) tables_return(heap, (size_t)(chunk - heap->arena->chunks));
    start += count << PAGE_SHIFT;
    pages -= count;
  }
}

void chunks_note_freed(struct pageheap *heap, uintptr_t start, size_t pages, bool resident, uint64_t now_ns) {
  while (pages > 0) {
    struct arena_chunk *chunk = arena_chunk_of(heap->arena, start);
    size_t count = pages_in_chunk(heap->arena, start, pages);
    ASSERT(count <= chunk->in_use_pages);
    atomic_store_relaxed(&chunk->in_use_pages, (uint16_t)(chunk->in_use_pages - count));
    if (resident) {
      chunk->idle_pages = (uint16_t)(chunk->idle_pages + count);
      chunk->freed_ns = now_ns;
      chunk->stuck = false;
    }
    start += count << PAGE_SHIFT;
    pages -= count;
  }
}

static bool is_unit_absent(const struct arena *arena, size_t first, size_t end) {
  for (size_t i = first; i < end; i++) {
    if (arena->chunks[i].in_use_pages != 0 || arena->chunks[i].idle_pages != 0) return false;
  }
  return true;
}

/* Their bits are zero then: pages lose theirs before they become free. */
static void release_tables(struct pageheap *heap, size_t chunk) {
  struct arena *arena = heap->arena;
  size_t first, end, count = 0;
  if (heap->hooks.release_tables == NULL || arena->chunks[chunk].tables_released) return;
  arena_mark_bits_unit(arena, chunk, &first, &end);
  size_t committed = SIZE_MAX;
  for (unsigned i = 0; i < arena->bit_tables; i++)
    committed = min_size(committed, arena->tables[ARENA_BITS + i].committed_bytes);
  if (end * CHUNK_MARK_BITS_BYTES > committed) return; /* the frontier's own unit: it is soon needed */
  if (!is_unit_absent(arena, first, min_size(end, arena_chunk_count(arena)))) return;
  for (unsigned i = 0; i < arena->bit_tables; i++) {
    char *bits = arena->tables[ARENA_BITS + i].base + first * CHUNK_MARK_BITS_BYTES;
    if (heap->hooks.release_tables(bits, (end - first) * CHUNK_MARK_BITS_BYTES) != 0) return;
  }
  for (size_t i = first; i < min_size(end, arena_chunk_count(arena)); i++) {
    count += !arena->chunks[i].tables_released;
    arena->chunks[i].tables_released = true;
  }
  heap->stats.tables_released_bytes += count * arena_chunk_bits_bytes(arena);
  persist_charge(PERSIST_BITS, -(ptrdiff_t)(count * arena_chunk_bits_bytes(arena)));
}

void chunks_note_released(struct pageheap *heap, uintptr_t start, size_t resident) {
  struct arena_chunk *chunk = arena_chunk_of(heap->arena, start);
  ASSERT(resident <= chunk->idle_pages);
  chunk->idle_pages = (uint16_t)(chunk->idle_pages - resident);
  if (chunk->in_use_pages != 0 || chunk->idle_pages != 0) return;
  atomic_store_relaxed(&chunk->emptied, true);
  release_tables(heap, (size_t)(chunk - heap->arena->chunks));
}
