#include "page/pageheap.h"

#include <errno.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "base/check.h"
#include "os/os.h"
#include "page/chunks.h"
#include "page/residency.h"

NOT_A_ROOT struct pageheap heap_pages;

#define GROW_DEFAULT_BYTES ((size_t)1 << 20)
#define GROW_MAX_BYTES ((size_t)64 << 20)
#define GROW_UNIT_BYTES ((size_t)64 << 10)
enum { GROW_FRACTION = 8 };

/* The choice between a resident and an absent span; see pageheap.h. */
enum { TIGHT_FIT_FRACTION = 8, WHOLE_SPAN_WORTH = 16 };

void pageheap_init(struct pageheap *heap, struct arena *arena, const struct pageheap_hooks *hooks) {
  *heap = (struct pageheap){.arena = arena, .hooks = *hooks, .grow_bytes = GROW_DEFAULT_BYTES};
  heap->release_unit_bytes = max_size(os_page_bytes(), PAGE_BYTES);
  heap->limit_bytes = SIZE_MAX;
  heap->stats.system_bytes = arena->used - arena->start;
  CHECK(heap->stats.system_bytes == 0, "page heap: the arena is in use already");
  lock_init(&heap->lock, LOCK_RANK_PAGEHEAP);
  fixalloc_init(&heap->spans, sizeof(struct span), false, PERSIST_SPAN);
}

/* ---- span structures and the table ---- */

/* A structure for a FREE span, or NULL.  Recycled ones come as they were left: everything that describes free memory is
 * written here, everything above that by claim. */
static struct span *new_span(struct pageheap *heap) {
  struct span *span = fixalloc_alloc(&heap->spans);
  if (span == NULL) return NULL;
  ASSERT(span_state(span) == SPAN_DEAD);
  span->link = span->age = (struct link){0};
  span->tree_left = span->tree_right = span->tree_parent = NULL;
  return span;
}

static void bury_span(struct pageheap *heap, struct span *span) {
  span_set_state(span, SPAN_DEAD);
  fixalloc_free(&heap->spans, span);
}

static struct span *table_read(const struct pageheap *heap, uintptr_t address) {
  return atomic_load_relaxed(&heap->arena->spans[arena_page_of(heap->arena, address)]);
}

/* Readers without the lock believe an entry only as far as the span's state, which is written later, confirms it. */
static void table_write(struct pageheap *heap, uintptr_t address, struct span *span) {
  atomic_store_relaxed(&heap->arena->spans[arena_page_of(heap->arena, address)], span);
}

static void table_write_ends(struct pageheap *heap, struct span *span) {
  table_write(heap, span->start, span);
  table_write(heap, span_end(span) - PAGE_BYTES, span);
}

static struct span *free_or_null(struct span *span) {
  return span != NULL && span_state(span) == SPAN_FREE ? span : NULL;
}

/* The free span that ends, or begins, at an address of the arena; NULL where the neighbour is not free. */
static struct span *free_span_before(const struct pageheap *heap, uintptr_t address) {
  return address > heap->arena->start ? free_or_null(table_read(heap, address - PAGE_BYTES)) : NULL;
}

static struct span *free_span_at(const struct pageheap *heap, uintptr_t address) {
  return address < heap->arena->used ? free_or_null(table_read(heap, address)) : NULL;
}

/* ---- residency ---- */

/* How many of `pages` pages from `start`, which belong to a free span, are resident.  What the span says of all its pages
 * mostly answers that. */
static size_t count_resident(struct pageheap *heap, const struct span *span, uintptr_t start, size_t pages) {
  ASSERT(start >= span->start && start + (pages << PAGE_SHIFT) <= span_end(span));
  if (span->released_pages == 0) return pages;
  if (span->released_pages == span->page_count) return 0;
  heap->residency_reads += pages;
  return residency_count(heap->arena, start, pages, PAGE_RESIDENT);
}

/* How many pages of a free span were given back to the system; its other absent ones were never touched. */
static size_t count_released(struct pageheap *heap, const struct span *span) {
  if (span->released_pages == 0) return 0;
  heap->residency_reads += span->page_count;
  return residency_count(heap->arena, span->start, span->page_count, PAGE_RELEASED);
}

/* ---- choosing ---- */

static bool is_worth_faulting_in(struct pageheap *heap, const struct span *absent, const struct span *resident,
                                 size_t pages) {
  size_t missing = pages - count_resident(heap, absent, absent->start, pages);
  if (missing == 0) return true;
  bool is_tight = absent->page_count - pages <= pages / TIGHT_FIT_FRACTION;
  return is_tight && missing <= resident->page_count / WHOLE_SPAN_WORTH;
}

static struct span *choose_locked(struct pageheap *heap, size_t pages) {
  struct span *resident = freeset_find(&heap->free.resident, pages);
  struct span *absent = freeset_find(&heap->free.absent, pages);
  if (resident == NULL || absent == NULL) return resident != NULL ? resident : absent;
  if (absent->page_count >= resident->page_count) return resident;
  return is_worth_faulting_in(heap, absent, resident, pages) ? absent : resident;
}

/* ---- splitting ---- */

/* Writes what follows from a free span's range and released_pages. */
static void describe_free(struct pageheap *heap, struct span *span, uintptr_t release_end) {
  span->needs_zero = span_resident_pages(span) > 0;
  span->release_end = max_size(span->start, min_size(release_end, span_end(span)));
  table_write_ends(heap, span);
}

/* Cuts the first `pages` pages off a free span, which is filed nowhere by size, and gives them to `front`, a structure
 * from new_span.  Both have the same age; only `span` stays filed by it. */
static void split_front(struct pageheap *heap, struct span *span, size_t pages, struct span *front) {
  ASSERT(pages > 0 && pages < span->page_count);
  uintptr_t release_end = span->release_end;
  size_t resident = count_resident(heap, span, span->start, pages);
  span_set_range(front, span->start, pages);
  span_set_range(span, span->start + (pages << PAGE_SHIFT), span->page_count - pages);
  front->released_pages = pages - resident;
  span->released_pages -= front->released_pages;
  front->unused_since_ns = span->unused_since_ns;
  span_set_state(front, SPAN_FREE);
  describe_free(heap, front, release_end);
  describe_free(heap, span, release_end);
}

/* Files by size what is left of a span, and corrects its filing by age. */
static void refile(struct pageheap *heap, struct span *span) {
  if (span_resident_pages(span) == 0) freeset_age_remove(&heap->free, span);
  freeset_insert(&heap->free, span);
}

/* A sweeper may look at the structure meanwhile, for the sake of its last life. */
static void clear_upper_fields(struct span *span) {
  atomic_store_relaxed(&span->size_class, (uint8_t)0);
  atomic_store_relaxed(&span->kind, (uint8_t)0);
  span->in_cache = false;
  span->slot_bytes_small = 0;
  span->slot_count = 0;
  span->live_count = 0;
  atomic_store_relaxed(&span->free_index, 0u);
  atomic_store_relaxed(&span->has_specials, false);
  atomic_store_relaxed(&span->specials, (struct special_set *)NULL);
}

/* Makes an owner's span of a free one that is filed nowhere. */
static void claim(struct pageheap *heap, struct span *span, enum span_state state) {
  struct arena *arena = heap->arena;
  struct pageheap_stats *stats = &heap->stats;
  size_t pages = span->page_count;
  size_t released = count_released(heap, span);
  stats->idle_bytes -= span_bytes(span);
  stats->released_bytes -= released << PAGE_SHIFT;
  stats->fresh_bytes -= (span->released_pages - released) << PAGE_SHIFT;
  *(state == SPAN_IN_USE ? &stats->in_use_bytes : &stats->stack_bytes) += span_bytes(span);
  *(state == SPAN_IN_USE ? &stats->in_use_spans : &stats->stack_spans) += 1;
  chunks_note_claimed(heap, span->start, pages, span->released_pages == 0);
  residency_set(arena, span->start, pages, PAGE_RESIDENT);
  span->released_pages = 0;
  clear_upper_fields(span);
  atomic_store_relaxed(&span->sweep_generation, span_generation_now());
  struct span **entries = &arena->spans[arena_page_of(arena, span->start)];
  for (size_t i = 0; i < pages; i++) atomic_store_relaxed(&entries[i], span); /* as table_write */
  span_set_state(span, state); /* a release: who sees the state sees the generation */
}

/* Takes `pages` pages out of a free span, leaving `gap` pages of it in front.  NULL, and nothing changed, where there
 * is no memory for the structures of the parts. */
static struct span *carve_locked(struct pageheap *heap, struct span *span, size_t gap, size_t pages,
                                 enum span_state state) {
  bool has_rest = span->page_count > gap + pages;
  struct span *front = gap > 0 ? new_span(heap) : NULL;
  struct span *middle = has_rest ? new_span(heap) : NULL;
  if ((gap > 0 && front == NULL) || (has_rest && middle == NULL)) {
    if (front != NULL) fixalloc_free(&heap->spans, front);
    if (middle != NULL) fixalloc_free(&heap->spans, middle);
    return NULL;
  }
  freeset_remove(&heap->free, span);
  if (gap > 0) {
    split_front(heap, span, gap, front);
    if (freeset_age_holds(span) && span_resident_pages(front) > 0) {
      freeset_age_insert_before(&heap->free, front, span);
    }
    freeset_insert(&heap->free, front);
  }
  if (has_rest) {
    split_front(heap, span, pages, middle);
    refile(heap, span);
    span = middle;
  } else {
    freeset_age_remove(&heap->free, span);
  }
  claim(heap, span, state);
  return span;
}

/* ---- merging ---- */

/* No page of a part from here on can be given back.  What the part knew stays known, so that a release need not walk over
 * pages that went long ago; but where OS pages are larger than ours, those that it shares with its neighbours could not
 * go before and can go now. */
static uintptr_t release_end_of_part(const struct pageheap *heap, const struct span *part, const struct span *freed) {
  uintptr_t end = span_end(part);
  uintptr_t first_end = min_size(round_up(part->start, heap->release_unit_bytes), end);
  uintptr_t last_start = max_size(round_down(end, heap->release_unit_bytes), part->start);
  if (part == freed) return end;
  if (residency_count(heap->arena, last_start, (end - last_start) >> PAGE_SHIFT, PAGE_RESIDENT) > 0) return end;
  return max_size(part->release_end, first_end);
}

/* Makes one free span of `span`, which is filed nowhere, and its free neighbours, and files it.  The structure of the
 * part with the most resident pages lives on, with its time and its place among the ages. */
static void merge_and_file(struct pageheap *heap, struct span *span, uint64_t now_ns) {
  struct span *parts[] = {free_span_before(heap, span->start), span, free_span_at(heap, span_end(span))};
  struct span *keep = span;
  uintptr_t start = span->start, release_end = span->start;
  size_t pages = 0, released = 0;
  for (size_t i = 0; i < COUNT_OF(parts); i++) {
    struct span *part = parts[i];
    if (part == NULL) continue;
    if (part->start < start) start = part->start;
    if (span_resident_pages(part) > 0) release_end = release_end_of_part(heap, part, span);
    if (span_resident_pages(part) > span_resident_pages(keep)) keep = part;
    pages += part->page_count;
    released += part->released_pages;
  }
  for (size_t i = 0; i < COUNT_OF(parts); i++) {
    struct span *part = parts[i];
    if (part == NULL) continue;
    if (part != span) freeset_remove(&heap->free, part);
    if (part == keep) continue;
    freeset_age_remove(&heap->free, part);
    bury_span(heap, part);
  }
  span_set_range(keep, start, pages);
  keep->released_pages = released;
  describe_free(heap, keep, release_end);
  if (released < pages && !freeset_age_holds(keep)) {
    keep->unused_since_ns = now_ns;
    freeset_age_append(&heap->free, keep);
  }
  freeset_insert(&heap->free, keep);
}

static void assert_no_page_info(const struct arena *arena, const struct span *span) {
#ifdef MIDDEN_ASSERTS
  size_t first = arena_page_of(arena, span->start);
  for (size_t i = 0; i < span->page_count; i++) ASSERT(arena->page_info[first + i] == 0);
#else
  (void)arena, (void)span;
#endif
}

/* An owner's span becomes a free one that is filed nowhere. */
static void give_up_locked(struct pageheap *heap, struct span *span, enum page_residency residency, bool unused,
                           uint64_t now_ns) {
  CHECK(span->link.list == NULL, "span %p at %p is freed while it is on a list", (void *)span, (void *)span->start);
  enum span_state state = span_state(span);
  if (unused) {
    span_take_back(span);
  } else {
    span_set_state(span, SPAN_FREE);
  }
  assert_no_page_info(heap->arena, span);
  *(state == SPAN_IN_USE ? &heap->stats.in_use_bytes : &heap->stats.stack_bytes) -= span_bytes(span);
  *(state == SPAN_IN_USE ? &heap->stats.in_use_spans : &heap->stats.stack_spans) -= 1;
  heap->stats.idle_bytes += span_bytes(span);
  span->released_pages = 0;
  if (residency == PAGE_RELEASED) {
    residency_set(heap->arena, span->start, span->page_count, PAGE_RELEASED);
    heap->stats.released_bytes += span_bytes(span);
    span->released_pages = span->page_count;
  }
  chunks_note_freed(heap, span->start, span->page_count, residency == PAGE_RESIDENT, now_ns);
}

static uint64_t freed_now_locked(struct pageheap *heap) { return heap->stats.freed_ns = heap->hooks.now_ns(); }

static void free_span(struct pageheap *heap, struct span *span, enum page_residency residency, bool unused) {
  lock_acquire(&heap->lock);
  uint64_t now_ns = freed_now_locked(heap);
  give_up_locked(heap, span, residency, unused, now_ns);
  merge_and_file(heap, span, now_ns);
  lock_release(&heap->lock);
}

void pageheap_free(struct pageheap *heap, struct span *span) { free_span(heap, span, PAGE_RESIDENT, false); }

void pageheap_free_released(struct pageheap *heap, struct span *span) { free_span(heap, span, PAGE_RELEASED, false); }

void pageheap_free_unused(struct pageheap *heap, struct span *span) { free_span(heap, span, PAGE_RESIDENT, true); }

/* Spans that follow one another become one before they are filed. */
void pageheap_free_many(struct pageheap *heap, struct span *const *spans, size_t count) {
  if (count == 0) return;
  lock_acquire(&heap->lock);
  uint64_t now_ns = freed_now_locked(heap);
  for (size_t i = 0; i < count; i++) {
    struct span *span = spans[i];
    give_up_locked(heap, span, PAGE_RESIDENT, false, now_ns);
    for (; i + 1 < count && spans[i + 1]->start == span_end(span); i++) {
      struct span *next = spans[i + 1];
      give_up_locked(heap, next, PAGE_RESIDENT, false, now_ns);
      span_set_range(span, span->start, span->page_count + next->page_count);
      bury_span(heap, next);
    }
    merge_and_file(heap, span, now_ns);
  }
  lock_release(&heap->lock);
}

/* ---- growing ---- */

static size_t grow_step_bytes(const struct pageheap *heap) {
  size_t step = min_size(heap->stats.system_bytes / GROW_FRACTION, GROW_MAX_BYTES);
  return round_up(max_size(step, heap->grow_bytes), GROW_UNIT_BYTES);
}

/* A large step ends with a whole chunk: one of which only a part is committed when it is touched is no huge page. */
static size_t to_whole_chunks(const struct pageheap *heap, size_t bytes) {
  size_t used_bytes = heap->arena->used - heap->arena->start;
  return bytes < CHUNK_BYTES ? bytes : round_up(used_bytes + bytes, CHUNK_BYTES) - used_bytes;
}

/* What the arena must gain so that a free span of `pages` pages ends at its frontier: one that ends there already
 * counts, since the new pages merge with it. */
static size_t missing_bytes(const struct pageheap *heap, size_t pages) {
  const struct span *tail = free_span_before(heap, heap->arena->used);
  size_t have = tail != NULL ? tail->page_count : 0;
  ASSERT(have < pages);
  return (pages - have) << PAGE_SHIFT;
}

static bool grow_locked(struct pageheap *heap, size_t pages) {
  struct span *span = new_span(heap);
  if (span == NULL) return false;
  size_t need_bytes = missing_bytes(heap, pages);
  size_t bytes = to_whole_chunks(heap, max_size(round_up(need_bytes, GROW_UNIT_BYTES), grow_step_bytes(heap)));
  uintptr_t start = arena_grow_locked(heap->arena, bytes);
  if (start == 0) {
    bytes = need_bytes;
    start = arena_grow_locked(heap->arena, bytes);
  }
  if (start == 0) {
    fixalloc_free(&heap->spans, span);
    return false;
  }
  heap->stats.system_bytes += bytes;
  heap->stats.idle_bytes += bytes;
  heap->stats.fresh_bytes += bytes;
  heap->stats.grow_count++;
  span_set_range(span, start, bytes >> PAGE_SHIFT);
  span->released_pages = span->page_count;
  span->unused_since_ns = heap->hooks.now_ns();
  span_set_state(span, SPAN_FREE);
  merge_and_file(heap, span, span->unused_since_ns);
  return true;
}

/* ---- allocating ---- */

static struct span *alloc_locked(struct pageheap *heap, size_t pages, size_t alignment, enum span_state state,
                                 bool may_grow) {
  size_t slack = (alignment >> PAGE_SHIFT) - 1;
  struct span *span = choose_locked(heap, pages + slack);
  if (span == NULL && may_grow && grow_locked(heap, pages + slack)) span = choose_locked(heap, pages + slack);
  if (span == NULL) return NULL;
  size_t gap = (round_up(span->start, alignment) - span->start) >> PAGE_SHIFT;
  return carve_locked(heap, span, gap, pages, state);
}

/* Where in a free span the first whole chunk lies that is not all resident, in pages from its start; SIZE_MAX: there is none. */
static size_t find_absent_chunk(const struct pageheap *heap, const struct span *span) {
  if (span == NULL) return SIZE_MAX;
  uintptr_t base = heap->arena->start;
  uintptr_t chunk = base + round_up(span->start - base, CHUNK_BYTES);
  for (; chunk + CHUNK_BYTES <= span_end(span); chunk += CHUNK_BYTES) {
    if (arena_chunk_of(heap->arena, chunk)->idle_pages < CHUNK_PAGES) return (chunk - span->start) >> PAGE_SHIFT;
  }
  return SIZE_MAX;
}

/* The span at the frontier, where the arena has grown. */
static struct span *tail_locked(struct pageheap *heap) { return free_span_before(heap, heap->arena->used); }

/* How many pages that are not resident an allocation would take. */
static size_t absent_pages_locked(struct pageheap *heap, size_t pages, size_t alignment) {
  size_t slack = (alignment >> PAGE_SHIFT) - 1;
  const struct span *span = choose_locked(heap, pages + slack);
  return span == NULL ? pages : pages - count_resident(heap, span, span->start, pages);
}

/* ---- the limit ---- */

static size_t idle_resident_locked(const struct pageheap *heap) { return pageheap_stats_idle_resident(&heap->stats); }

static size_t held_bytes_locked(const struct pageheap *heap) {
  size_t metadata_bytes = heap->hooks.metadata_bytes != NULL ? heap->hooks.metadata_bytes() : 0;
  return heap->stats.in_use_bytes + heap->stats.stack_bytes + idle_resident_locked(heap) + metadata_bytes;
}

/* What may still become resident. */
static size_t room_bytes_locked(const struct pageheap *heap) {
  size_t limit_bytes = atomic_load_relaxed(&heap->limit_bytes);
  if (LIKELY(limit_bytes == SIZE_MAX)) return SIZE_MAX;
  size_t held_bytes = held_bytes_locked(heap);
  return limit_bytes > held_bytes ? limit_bytes - held_bytes : 0;
}

size_t pageheap_held_bytes(struct pageheap *heap) {
  lock_acquire(&heap->lock);
  size_t held_bytes = held_bytes_locked(heap);
  lock_release(&heap->lock);
  return held_bytes;
}

void pageheap_set_limit(struct pageheap *heap, size_t limit_bytes) {
  atomic_store_relaxed(&heap->limit_bytes, limit_bytes);
}

/* In the smallest span that has room for one, or at the frontier. */
static struct span *take_absent_locked(struct pageheap *heap) {
  struct span *span = freeset_find(&heap->free.absent, CHUNK_PAGES);
  size_t gap = find_absent_chunk(heap, span);
  if (gap == SIZE_MAX) gap = find_absent_chunk(heap, span = tail_locked(heap));
  const struct span *tail = span;
  size_t wanted = 2 * CHUNK_PAGES + (tail != NULL ? tail->page_count : 0);
  if (gap == SIZE_MAX && grow_locked(heap, wanted)) gap = find_absent_chunk(heap, span = tail_locked(heap));
  return gap == SIZE_MAX ? NULL : carve_locked(heap, span, gap, CHUNK_PAGES, SPAN_STACK);
}

struct span *pageheap_take_absent(struct pageheap *heap) {
  lock_acquire(&heap->lock);
  struct span *taken = room_bytes_locked(heap) >= CHUNK_BYTES ? take_absent_locked(heap) : NULL;
  lock_release(&heap->lock);
  return taken;
}

size_t pageheap_commit_tables(struct pageheap *heap, uintptr_t *frontier) {
  lock_acquire(&heap->lock);
  size_t bytes = to_whole_chunks(heap, grow_step_bytes(heap));
  if (room_bytes_locked(heap) < bytes || arena_commit_tables_locked(heap->arena, bytes) != 0) bytes = 0;
  *frontier = heap->arena->used;
  lock_release(&heap->lock);
  return bytes;
}

/* Before an allocation makes more pages resident than the limit allows: as many idle ones go that it does not use.  What
 * was too much before is not this allocation's to repair. */
static void make_room(struct pageheap *heap, size_t pages, size_t alignment) {
  if (LIKELY(atomic_load_relaxed(&heap->limit_bytes) == SIZE_MAX)) return;
  lock_acquire(&heap->lock);
  size_t more_bytes = absent_pages_locked(heap, pages, alignment) << PAGE_SHIFT;
  size_t room_bytes = room_bytes_locked(heap), idle_bytes = idle_resident_locked(heap);
  lock_release(&heap->lock);
  if (more_bytes <= room_bytes) return;
  size_t over_bytes = more_bytes - room_bytes;
  if (idle_bytes > 0) {
    uint64_t start_ns = heap->hooks.now_ns();
    over_bytes -= min_size(pageheap_release(heap, over_bytes, 0), over_bytes);
    atomic_add_relaxed(&heap->limit_release_ns, heap->hooks.now_ns() - start_ns);
  }
  if (over_bytes > 0 && heap->hooks.press != NULL) heap->hooks.press();
}

/* No resident pages are free: somebody may be able to free some, which is cheaper than to touch new ones. */
static void find_memory(struct pageheap *heap, size_t pages, size_t alignment) {
  if (heap->hooks.reclaim != NULL) heap->hooks.reclaim(pages);
  make_room(heap, pages, alignment);
}

/* One that is all resident already. */
static struct span *alloc_resident_locked(struct pageheap *heap, size_t pages, enum span_state state) {
  struct span *span = choose_locked(heap, pages);
  bool is_resident = span != NULL && count_resident(heap, span, span->start, pages) == pages;
  return is_resident ? carve_locked(heap, span, 0, pages, state) : NULL;
}

/* The first span may be any, and those after it no more than resident ones. */
static size_t alloc_many(struct pageheap *heap, size_t pages, size_t alignment, enum span_state state, bool may_grow,
                         struct span **spans, size_t most) {
  size_t arena_bytes = heap->arena->end - heap->arena->start, count = 0;
  if (pages == 0 || pages > arena_bytes >> PAGE_SHIFT || alignment > arena_bytes) return 0;
  lock_acquire(&heap->lock);
  if (may_grow && absent_pages_locked(heap, pages, alignment) > 0) {
    lock_release(&heap->lock);
    find_memory(heap, pages, alignment);
    lock_acquire(&heap->lock);
  }
  struct span *span = alloc_locked(heap, pages, alignment, state, may_grow);
  for (; span != NULL; span = count < most ? alloc_resident_locked(heap, pages, state) : NULL) spans[count++] = span;
  bool is_low = idle_resident_locked(heap) < atomic_load_relaxed(&heap->low_bytes);
  lock_release(&heap->lock);
  if (UNLIKELY(is_low) && heap->hooks.low != NULL) heap->hooks.low();
  return count;
}

struct span *pageheap_alloc_aligned(struct pageheap *heap, size_t pages, size_t alignment, enum span_state state,
                                    bool may_grow) {
  CHECK(is_power_of_two(alignment), "page heap: %zu is no alignment", alignment);
  CHECK(state == SPAN_IN_USE || state == SPAN_STACK, "page heap: a span cannot be allocated as %s",
        span_state_name(state));
  struct span *span = NULL;
  alloc_many(heap, pages, max_size(alignment, PAGE_BYTES), state, may_grow, &span, 1);
  return span;
}

size_t pageheap_alloc_many(struct pageheap *heap, size_t pages, struct span **spans, size_t most) {
  return alloc_many(heap, pages, PAGE_BYTES, SPAN_IN_USE, true, spans, most);
}

struct span *pageheap_alloc(struct pageheap *heap, size_t pages, enum span_state state, bool may_grow) {
  return pageheap_alloc_aligned(heap, pages, PAGE_BYTES, state, may_grow);
}

void pageheap_read_stats(struct pageheap *heap, struct pageheap_stats *stats) {
  lock_acquire(&heap->lock);
  *stats = heap->stats;
  stats->free_spans = heap->free.count;
  lock_release(&heap->lock);
}

int pageheap_reserve(struct pageheap *heap, size_t pages) {
  if (pages > (heap->arena->end - heap->arena->start) >> PAGE_SHIFT) return -ENOMEM;
  lock_acquire(&heap->lock);
  bool reserved = pages == 0 || choose_locked(heap, pages) != NULL || grow_locked(heap, pages);
  lock_release(&heap->lock);
  return reserved ? 0 : -ENOMEM;
}
