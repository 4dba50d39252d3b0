/* Allocation: the fast paths, and what to do when they find nothing.
 *
 * A fast path is: class of the size, window of kind and class, bump, compare.  The slow path fills the window inside a
 * critical section; outside of it, it pays for what is due: a collection at the pacer's trigger, or the last resorts when
 * memory has run out. */
#include "api/allocate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "alloc/account.h"
#include "alloc/cache.h"
#include "alloc/central.h"
#include "alloc/large.h"
#include "api/start.h"
#include "base/bits.h"
#include "base/check.h"
#include "base/memcheck.h"
#include "gc/assist.h"
#include "gc/cell.h"
#include "gc/collector.h"
#include "gc/concurrent.h"
#include "gc/deferred.h"
#include "gc/dirty.h"
#include "gc/handover.h"
#include "gc/profile.h"
#include "gc/scavenger.h"
#include "gc/settle.h"
#include "gc/slowing.h"
#include "gc/sweep.h"
#include "midden/barrier.h"
#include "mutator/barrier.h"
#include "mutator/handshake.h"
#include "mutator/stack.h"
#include "page/pageheap.h"
#include "span/guard.h"
#include "span/mark_bits.h"
#include "span/object.h"
#include "span/sticky.h"

/* ---- when memory runs out ---- */

static midden_out_of_memory_fn *out_of_memory; /* atomic */

void midden_set_out_of_memory(midden_out_of_memory_fn *handler) {
  start_ensure();
  atomic_store_release(&out_of_memory, handler);
}

static void *fail(size_t bytes) {
  midden_out_of_memory_fn *handler = atomic_load_acquire(&out_of_memory);
  return handler == NULL ? NULL : handler(bytes);
}

/* Others rest for the first few, in which a thread that is alone finds what there is. */
enum { LAST_RESORTS = 3, STARVING_MOST = 8, SHORTAGES_MOST = 64, STACKS_AT_ONCE = 16 };

static void note(struct mutator *self, struct shortage *shortage) {
  struct pageheap_stats pages;
  mutator_enter(self);
  pageheap_read_stats(&heap_pages, &pages);
  shortage->in_use_bytes = pages.in_use_bytes;
  shortage->collections = collector_count();
  mutator_leave(self);
}

/* What the heap may hold at most. */
static size_t capacity_bytes(void) {
  return min_size(heap_arena.end - heap_arena.start, atomic_load_relaxed(&heap_arena.limit_bytes));
}

/* Whether there may have been room, for a moment: other threads have taken pages, or as much as `bytes` of objects since the last
 * full cycle began (one that runs beside the program frees nothing of what is allocated meanwhile); or what another cycle has
 * freed came too late.  Not where there is no room for so much beside what lived when that one began. */
static bool was_taken(struct mutator *self, size_t bytes, const struct shortage *shortage) {
  struct shortage now;
  note(self, &now);
  mutator_enter(self);
  bool has_room = add_saturating(collector_lived_bytes(), bytes) <= capacity_bytes();
  bool is_news = now.collections != shortage->collections || sweep_left_pages() != 0 ||
                 now.in_use_bytes > shortage->in_use_bytes || collector_new_bytes() > bytes;
  mutator_leave(self);
  return shortage->has_collected && has_room && is_news;
}

/* Stacks of fibers that have ended wait to be used again.  Not those that others put back meanwhile. */
static void give_idle_stacks_back(struct mutator *self) {
  struct stacks_figures idle;
  size_t freed_bytes = 1;
  mutator_enter(self);
  stacks_read(&idle);
  mutator_leave(self);
  for (size_t left = idle.idle_bytes; left != 0 && freed_bytes != 0; left -= min_size(left, freed_bytes)) {
    mutator_enter(self);
    freed_bytes = stacks_trim_some(STACKS_AT_ONCE);
    mutator_leave(self);
  }
}

static void collect(struct mutator *self, unsigned count, enum collector_reason reason) {
  self->is_starving = count < STARVING_MOST;
  collector_collect(reason, NULL, NULL);
  self->is_starving = false;
}

static bool await_end(struct mutator *self, unsigned count) {
  self->is_starving = count < STARVING_MOST;
  bool has_waited = collector_await_end(self);
  self->is_starving = false;
  return has_waited;
}

/* What can be tried, in this order, when there is no memory. */
static void resort_to(struct mutator *self, unsigned count) {
  /* The second of two collections: what finalizers kept may be free now. */
  if (count != 1) collect(self, count, count == 2 ? COLLECT_FORCED : COLLECT_OUT_OF_MEMORY);
  if (count != 0) sweep_finish(self);
  if (count != 0) give_idle_stacks_back(self);
}

/* What is freed may be gone before this thread has its turn: as long as that may be so it tries again; also when a cycle ends that
 * others have asked for, or it would have its turn when they have taken everything, each time. */
bool allocate_try_harder(struct mutator *self, size_t bytes, struct shortage *shortage) {
  shortage->has_awaited = !shortage->has_awaited && await_end(self, shortage->count);
  if (!shortage->has_awaited) {
    unsigned count = shortage->count++;
    if (count >= LAST_RESORTS && (count >= SHORTAGES_MOST || !was_taken(self, bytes, shortage))) return false;
    uint64_t collections = collector_count();
    resort_to(self, count);
    shortage->has_collected = collector_count() != collections;
  }
  note(self, shortage);
  return true;
}

/* ---- what is due ---- */

static void stress(void) {
  static unsigned count;
  if (atomic_add_relaxed(&count, 1u) % start_stress_interval == 0) collector_collect(COLLECT_STRESS, NULL, NULL);
}

/* Before about `bytes` are handed out. */
static void pay_dues(struct mutator *self, size_t bytes) {
  handshake_poll(self);
  if (UNLIKELY(slowing_is_due())) slowing_rest(self, bytes);
  if (handover_is_offered_to_all()) handover_take(self);
  if (UNLIKELY(atomic_load_relaxed(&handover_is_untold))) handover_tell(self);
  if (UNLIKELY(account_collection_is_due())) collector_collect(COLLECT_HEAP, NULL, NULL);
  if (UNLIKELY(atomic_load_relaxed(&assist_is_due))) assist_pay(self, bytes);
  if (UNLIKELY(sweep_is_owed())) sweep_pay(self, bytes);
  if (UNLIKELY(start_stress_interval != 0)) stress();
}

/* The first slot of a window that was just filled. */
static void *bump(struct mutator *self, unsigned kind, unsigned size_class) {
  return cache_bump(cache_bin_of(&self->cache, kind, size_class), size_class_bytes[size_class]);
}

/* What follows gives NULL where there is no memory, and leaves the handler to who calls it: what that returns is the program's,
 * and may be anything. */

/* ---- guarded objects ----
 *
 * Where objects are guarded no window ever holds a slot, so that every allocation comes by here (span/guard.h). */

/* Slots of a power of two are aligned to their size, up to a page: the bytes to ask for.  More than a page: as it is, and such an
 * alignment asks for an object of its own, however small. */
static size_t aligned_slot_bytes(size_t bytes, size_t alignment) {
  size_t rounded = max_size(bytes, alignment);
  if (alignment > PAGE_BYTES) return max_size(bytes, PAGE_BYTES + 1);
  if (alignment <= GRANULE_BYTES || rounded > PAGE_BYTES) return rounded;
  return (size_t)1 << (highest_bit(rounded - 1) + 1);
}

/* A free slot of at least `bytes`, or NULL; and whether the object in it is to be sampled.  Critical sections. */
static void *take_slot(struct mutator *self, unsigned kind, size_t bytes, size_t alignment, bool *is_sampled) {
  if (bytes > SIZE_CLASS_MAX_BYTES || (alignment > GRANULE_BYTES && bytes > PAGE_BYTES)) {
    struct large large;
    if (!large_alloc(&self->cache, kind, bytes, max_size(alignment, PAGE_BYTES), &large)) return NULL;
    *is_sampled = cache_samples_large(&self->cache, large.bytes);
    return large.start;
  }
  unsigned size_class = size_class_of(bytes);
  enum cache_filled filled = cache_refill(&self->cache, kind, size_class);
  if (filled == CACHE_NO_MEMORY) return NULL;
  *is_sampled = filled == CACHE_SAMPLED;
  return bump(self, kind, size_class);
}

static NOINLINE void *alloc_guarded(unsigned kind, size_t bytes, size_t alignment) {
  struct mutator *self = start_self_or_null();
  if (UNLIKELY(self == NULL)) return NULL;
  size_t slot_bytes = aligned_slot_bytes(guard_slot_bytes(kind, bytes), alignment);
  pay_dues(self, bytes);
  for (struct shortage shortage = {0};;) {
    bool is_sampled = false;
    mutator_enter(self);
    void *slot = take_slot(self, kind, slot_bytes, alignment, &is_sampled);
    if (slot != NULL) guard_allocated(object_span((uintptr_t)slot), (uintptr_t)slot, bytes);
    mutator_leave(self);
    if (UNLIKELY(is_sampled)) profile_record(self, slot, __builtin_return_address(0));
    if (slot != NULL) return slot;
    if (slot_bytes > PTRDIFF_MAX || !allocate_try_harder(self, max_size(slot_bytes, alignment), &shortage)) return NULL;
  }
}

/* ---- small objects ---- */

ALWAYS_INLINE void *make_small(unsigned kind, unsigned size_class, size_t bytes) {
  struct mutator *self = start_self_or_null();
  if (UNLIKELY(self == NULL)) return NULL;
  if (UNLIKELY(guard_active)) return alloc_guarded(kind, bytes, GRANULE_BYTES);
  pay_dues(self, cache_window_bytes(size_class_bytes[size_class]));
  for (struct shortage shortage = {0};;) {
    mutator_enter(self);
    enum cache_filled filled = cache_refill(&self->cache, kind, size_class);
    mutator_leave(self);
    if (LIKELY(filled == CACHE_FILLED)) return bump(self, kind, size_class);
    if (filled == CACHE_SAMPLED) return profile_record(self, bump(self, kind, size_class), __builtin_return_address(0));
    if (!allocate_try_harder(self, bytes, &shortage)) return NULL;
  }
}

/* From the window of the calling thread's cache, or NULL. */
ALWAYS_INLINE void *take_small(struct cache *cache, unsigned kind, unsigned size_class) {
  struct cache_bin *bin = cache_bin_of(cache, kind, size_class);
  return LIKELY(bin != NULL) ? cache_bump(bin, size_class_bytes[size_class]) : NULL;
}

/* ---- large objects ---- */

/* What a marker may read meanwhile, where the thread has been scanned since the object was made: it finds what was there before,
 * or zeros.  The thread sanitizer is shown whole words. */
static void clear_read_beside(void *start, size_t bytes) {
  if (!THREAD_SANITIZER) {
    memset(start, 0, bytes);
    return;
  }
  for (size_t i = 0; i < bytes / sizeof(void *); i++) atomic_store_relaxed((void **)start + i, (void *)NULL);
}

/* Outside the critical section: a stop need not wait for it. */
static void clear_large(struct mutator *self, const struct large *large) {
  clear_read_beside(large->start, large->bytes);
  atomic_signal_barrier();
  atomic_store_plain(&self->cache.clearing, (uintptr_t)0);
}

ALWAYS_INLINE void *make_large(unsigned kind, size_t bytes, size_t alignment) {
  struct mutator *self = start_self_or_null();
  if (UNLIKELY(self == NULL)) return NULL;
  if (UNLIKELY(guard_active)) return alloc_guarded(kind, bytes, alignment);
  collector_press_for(self, bytes);
  pay_dues(self, bytes);
  for (struct shortage shortage = {0};;) {
    struct large large;
    mutator_enter(self);
    bool allocated = large_alloc(&self->cache, kind, bytes, alignment, &large);
    bool is_sampled = allocated && cache_samples_large(&self->cache, large.bytes);
    mutator_leave(self);
    if (allocated) {
      if (large.must_clear) clear_large(self, &large);
      if (UNLIKELY(is_sampled)) profile_record(self, large.start, __builtin_return_address(0));
      return large.start;
    }
    if (bytes > PTRDIFF_MAX || !allocate_try_harder(self, max_size(bytes, alignment), &shortage)) return NULL;
  }
}

/* ---- for the library, which needs to know what it has: it writes to it ---- */

static NOINLINE void *make_slow(unsigned kind, size_t bytes) {
  if (bytes <= SIZE_CLASS_MAX_BYTES) return make_small(kind, size_class_of(bytes), bytes);
  return make_large(kind, bytes, PAGE_BYTES);
}

void *allocate_object(unsigned kind, size_t bytes) {
  void *object = bytes <= SIZE_CLASS_MAX_BYTES ? take_small(cache_self, kind, size_class_of(bytes)) : NULL;
  if (UNLIKELY(object == NULL)) object = make_slow(kind, bytes);
  if (UNLIKELY(object == NULL)) (void)fail(bytes); /* which need not return; it cannot make what is wanted here */
  return object;
}

/* ---- the entry points ---- */

static NOINLINE void *alloc_small_slow(unsigned kind, unsigned size_class, size_t bytes) {
  void *object = make_small(kind, size_class, bytes);
  return LIKELY(object != NULL) ? object : fail(bytes);
}

static NOINLINE void *alloc_large(unsigned kind, size_t bytes, size_t alignment) {
  void *object = make_large(kind, bytes, alignment);
  return LIKELY(object != NULL) ? object : fail(bytes);
}

ALWAYS_INLINE void *alloc_small(unsigned kind, size_t bytes) {
  unsigned size_class = size_class_of(bytes);
  void *slot = take_small(cache_self, kind, size_class);
  return LIKELY(slot != NULL) ? slot : alloc_small_slow(kind, size_class, bytes);
}

ALWAYS_INLINE void *alloc_any(unsigned kind, size_t bytes) {
  if (LIKELY(bytes <= SIZE_CLASS_MAX_BYTES)) return alloc_small(kind, bytes);
  return alloc_large(kind, bytes, PAGE_BYTES);
}

HOT_ENTRY void *midden_alloc(size_t bytes) { return alloc_any(MIDDEN_CONSERVATIVE, bytes); }

HOT_ENTRY void *midden_alloc_root(size_t bytes) { return alloc_any(MIDDEN_ROOT, bytes); }

/* The first half of a slot that others will share. */
ALWAYS_INLINE void *share_tiny(char *slot) {
  struct cache *cache = cache_self;
  atomic_store_plain(&cache->tiny_next, slot + GRANULE_BYTES);
  atomic_store_plain(&cache->tiny_limit, slot + GRANULE_BYTES);
  atomic_signal_barrier(); /* limit first: between the two stores the rest is empty */
  atomic_store_plain(&cache->tiny_next, slot + TINY_BYTES);
  return slot;
}

/* Guarded objects share nothing. */
static NOINLINE void *alloc_tiny_slow(size_t bytes) {
  start_ensure();
  if (UNLIKELY(guard_active)) return alloc_any(MIDDEN_DATA, bytes);
  char *slot = make_slow(KIND_TINY, GRANULE_BYTES);
  return LIKELY(slot != NULL) ? share_tiny(slot) : fail(bytes);
}

HOT_ENTRY void *midden_alloc_data(size_t bytes) {
  if (bytes > TINY_BYTES) return alloc_any(MIDDEN_DATA, bytes);
  struct cache *cache = cache_self;
  char *tiny = cache->tiny_next;
  if (tiny != cache->tiny_limit) {
    atomic_store_plain(&cache->tiny_next, tiny + TINY_BYTES);
    return tiny;
  }
  tiny = take_small(cache, KIND_TINY, size_class_of(GRANULE_BYTES));
  return LIKELY(tiny != NULL) ? share_tiny(tiny) : alloc_tiny_slow(bytes);
}

/* Whether objects of a kind may be allocated by its number. */
static bool is_for_program(unsigned kind) { return kind != MIDDEN_TYPED && !kind_is_own(kind) && kind_exists(kind); }

HOT_ENTRY void *midden_alloc_kind(midden_kind kind, size_t bytes) {
  if (UNLIKELY(!is_for_program(kind))) return NULL;
  return alloc_any(kind, bytes);
}

void *midden_alloc_aligned(midden_kind kind, size_t alignment, size_t bytes) {
  if (!is_power_of_two(alignment) || !is_for_program(kind)) return NULL;
  if (alignment <= GRANULE_BYTES) return alloc_any(kind, bytes);
  start_ensure();
  if (UNLIKELY(guard_active)) return alloc_large(kind, bytes, alignment);
  size_t slot_bytes = aligned_slot_bytes(bytes, alignment);
  return slot_bytes <= PAGE_BYTES ? alloc_small(kind, slot_bytes) : alloc_large(kind, slot_bytes, alignment);
}

/* Takes what is left of a window and links it behind `first`; returns how many slots that were.  Each is told to the barrier:
 * where a thread not yet scanned stores the list to an object that nobody will read, nothing else leads to them. */
static size_t link_window(struct cache_bin *bin, size_t slot_bytes, void *first) {
  size_t count = 0;
  void **last = first, *slot;
  for (; (slot = cache_bump(bin, slot_bytes)) != NULL; count++) {
    atomic_store_relaxed(last, slot);
    barrier_note(NULL, slot);
    last = slot;
  }
  atomic_store_relaxed(last, NULL);
  return count;
}

/* The list is made and stored in one critical section: where objects of the kind are not scanned, a collection in between
 * would see its first element only. */
size_t midden_alloc_many(midden_kind kind, size_t bytes, void **list) {
  if (!atomic_load_relaxed(&dirty_batches_seen)) atomic_store_relaxed(&dirty_batches_seen, true);
  if (handover_is_offered()) handover_take(start_self());
  void *first = is_for_program(kind) ? allocate_object(kind, max_size(bytes, sizeof(void *))) : NULL;
  size_t count = 0;
  if (first == NULL) {
    midden_store(list, NULL);
    return 0;
  }
  struct mutator *self = start_self();
  mutator_enter(self);
  atomic_store_relaxed((void **)first, NULL);
  if (bytes <= SIZE_CLASS_MAX_BYTES && !guard_active) {
    unsigned size_class = size_class_of(bytes);
    count = link_window(cache_bin_of(&self->cache, kind, size_class), size_class_bytes[size_class], first);
  }
  /* It may lie in an object that a trace function reads (a release: then the links are there); or be a variable that nobody
   * has written. */
  memcheck_quiet_begin();
  midden_store(list, first);
  memcheck_quiet_end();
  mutator_leave(self);
  return count + 1;
}

/* ---- typed objects ---- */

/* Writes the trailer, last of all: until then the collector sees an object without a type, and without references. */
ALWAYS_INLINE void *stamp(char *object, size_t slot_bytes, const struct midden_type *type, size_t count,
                          size_t trailer_bytes) {
  uintptr_t *trailer = (uintptr_t *)(void *)(object + slot_bytes);
  bool is_array = trailer_bytes > sizeof(uintptr_t);
  if (is_array) trailer[-2] = count;
  atomic_store_release(&trailer[-1], (uintptr_t)type | (is_array ? TYPE_ARRAY_TAG : 0));
  return object;
}

/* A guard knows of the trailer, and must not take it for a part of the object. */
static NOINLINE void *alloc_typed_slow(const struct midden_type *type, size_t count, size_t bytes,
                                       size_t trailer_bytes) {
  start_ensure();
  char *object =
      guard_active ? alloc_guarded(MIDDEN_TYPED, bytes - trailer_bytes, GRANULE_BYTES) : make_slow(MIDDEN_TYPED, bytes);
  if (UNLIKELY(object == NULL)) return fail(bytes - trailer_bytes);
  return stamp(object, span_slot_bytes(object_span((uintptr_t)object)), type, count, trailer_bytes);
}

static void *alloc_typed(const struct midden_type *type, size_t count, size_t trailer_bytes) {
  size_t bytes;
  if (type == NULL || type->size == 0 || type->size % sizeof(uintptr_t) != 0) return NULL;
  if (__builtin_mul_overflow(type->size, count, &bytes) || __builtin_add_overflow(bytes, trailer_bytes, &bytes))
    return fail(SIZE_MAX);
  if (UNLIKELY(bytes > SIZE_CLASS_MAX_BYTES)) return alloc_typed_slow(type, count, bytes, trailer_bytes);
  unsigned size_class = size_class_of(bytes);
  char *object = cache_bump(cache_bin_of(cache_self, MIDDEN_TYPED, size_class), size_class_bytes[size_class]);
  if (UNLIKELY(object == NULL)) return alloc_typed_slow(type, count, bytes, trailer_bytes);
  return stamp(object, size_class_bytes[size_class], type, count, trailer_bytes);
}

void *midden_alloc_type(const struct midden_type *type) { return alloc_typed(type, 1, sizeof(uintptr_t)); }

void *midden_alloc_array(const struct midden_type *type, size_t count) {
  return alloc_typed(type, count, 2 * sizeof(uintptr_t));
}

/* ---- freeing ---- */

static _Noreturn COLD void report_bad(const char *function, const void *address) {
  struct span *span = arena_span_of(&heap_arena, (uintptr_t)address);
  if (span == NULL) {
    bool inside = arena_contains(&heap_arena, (uintptr_t)address);
    fatal("%s(%p): not an object: %s", function, address, inside ? "its span is free" : "outside the heap, no span");
  }
  uint16_t info = heap_arena.page_info[arena_page_of(&heap_arena, (uintptr_t)address)];
  uintptr_t start = info != 0 ? object_slot_start((uintptr_t)address, info) : 0;
  bool living =
      start != 0 && mark_bit_get(&heap_arena, alloc_side(), start) && !cache_window_holds(cache_self, span, start);
  const char *what = start != (uintptr_t)address ? "inside an object, not at its start" : "not the program's to free";
  fatal("%s(%p): %s; span %p of %zu pages, state %s, slots of %zu bytes, kind %s", function, address,
        living ? what : "the slot is free (a double free?)", (void *)span->start, span->page_count,
        span_state_name(span_state(span)), span_slot_bytes(span), kind_table[span->kind].name);
}

static _Noreturn COLD void report_bad_free(const void *address) { report_bad("midden_free", address); }

/* What the collector remembers of it. */
static void free_specials(const struct object *object) {
  struct span *span = object->span;
  if (LIKELY(!atomic_load_relaxed(&span->has_specials))) return;
  if (kind_is_cell(span->kind)) cell_freed((struct cell *)object->start);
  settle_object_freed(object->start);
}

static void free_found(struct mutator *self, const struct object *object) {
  struct span *span = object->span;
  central_ensure_swept(span);
  free_specials(object);
  if (UNLIKELY(guard_active) && span->size_class == 0) guard_freed(span, object->start);
  bool was_living = span->size_class == 0 ? mark_bit_clear(&heap_arena, alloc_side(), object->start)
                                          : cache_free_slot(&self->cache, span, object->start);
  if (!was_living) report_bad_free((void *)object->start);
  if (span->size_class != 0) return;
  sticky_forget(span, span->start, span_end(span));
  large_free(&self->cache, span);
}

/* An object whose time had come when a cycle was under way. */
static void free_deferred(struct mutator *self, uintptr_t address) {
  struct object object;
  if (!object_find((void *)address, &object)) report_bad_free((void *)address);
  free_found(self, &object);
}

void allocate_init(void) { deferred_free = free_deferred; }

/* Beside a cycle.  It is marked: what it refers to may have been loaded from it, and it must not be reclaimed before it is
 * freed.  False where there is no memory to defer it. */
static bool defer(struct mutator *self, const struct object *object) {
  if (concurrent_is_marking()) concurrent_mark(self, object->start);
  int error = deferred_add(object->start);
  if (error == -EEXIST) report_bad_free((void *)object->start);
  free_specials(object);
  return error == 0;
}

/* Whether the slot is shared by several tiny objects. */
static bool is_shared(const struct object *object) { return object->span->kind == KIND_TINY; }

void midden_free(void *address) {
  if (address == NULL) return;
  struct mutator *self = start_self();
  struct object object;
  mutator_enter(self);
  bool found = cache_find_object(&self->cache, address, &object);
  if (found && is_shared(&object)) {
    mutator_leave(self);
    return;
  }
  if (!found || object.start != (uintptr_t)address || object.span->kind == KIND_FIBER) report_bad_free(address);
  bool is_large = object.span->size_class == 0, done = true;
  if (UNLIKELY(atomic_load_relaxed(&span_marking))) {
    done = defer(self, &object);
  } else {
    free_found(self, &object);
  }
  mutator_leave(self);
  if (UNLIKELY(is_large)) scavenger_notice_free();
  if (LIKELY(done)) return;
  /* Who cannot wait for the end of the cycle leaves it to the collector. */
  if (collector_await(self)) midden_free(address);
}

/* ---- resizing ---- */

/* To a fresh object, whole words each at once: a marker may read it meanwhile [birth]. */
static void copy_words(midden_word *to, const midden_word *from, size_t bytes) {
  size_t count = bytes / sizeof(midden_word);
  for (size_t i = 0; i < count; i++) atomic_store_relaxed(&to[i], atomic_load_relaxed(&from[i]));
  memcpy(&to[count], &from[count], bytes % sizeof(midden_word)); /* no reference */
}

static void *move(void *from, size_t old_bytes, unsigned kind, size_t bytes) {
  void *to = allocate_object(kind, bytes);
  if (to == NULL) return NULL;
  size_t kept = min_size(old_bytes, bytes);
  if (kind_table[kind].scan == SCAN_NONE) {
    memcpy(to, from, kept);
  } else {
    copy_words(to, from, kept);
  }
  midden_free(from);
  return to;
}

/* A tiny object has nothing beyond its few bytes: the next ones are another's. */
static void *realloc_tiny(void *address, size_t bytes) {
  if (!is_aligned((uintptr_t)address, TINY_BYTES)) report_bad("midden_realloc", address);
  if (bytes > TINY_BYTES) return move(address, TINY_BYTES, MIDDEN_DATA, bytes);
  memset((char *)address + bytes, 0, TINY_BYTES - bytes); /* what grows back later reads as zero */
  return address;
}

/* Zeroes an object from byte `from` on.  A reference that goes is told to the collector, which may be beside: it may have
 * been loaded.  So is one of which the first bytes stay. */
static void cut_off(char *object, unsigned kind, size_t from, size_t end) {
  if (kind_table[kind].scan == SCAN_NONE) {
    memset(object + from, 0, end - from);
    return;
  }
  size_t part = from % sizeof(midden_word), words_from = round_up(from, sizeof(midden_word));
  if (part != 0) {
    midden_word *slot = (midden_word *)(object + from - part);
    void *word = atomic_load_relaxed(slot);
    memset((char *)&word + part, 0, sizeof word - part);
    midden_store(slot, word);
  }
  midden_clear_range(object + words_from, (end - words_from) / sizeof(midden_word));
}

void *midden_realloc(void *address, size_t bytes) {
  if (address == NULL) return midden_alloc(bytes);
  struct object object;
  if (!cache_find_object(cache_self, address, &object)) report_bad("midden_realloc", address);
  if (!is_shared(&object) && object.start != (uintptr_t)address) report_bad("midden_realloc", address);
  if (bytes == 0) {
    midden_free(address);
    return NULL;
  }
  if (is_shared(&object)) return realloc_tiny(address, bytes);
  unsigned kind = object.span->kind;
  if (!is_for_program(kind)) return NULL;
  size_t usable = object_usable_bytes(&object);
  bool stays = !guard_active && bytes <= usable && (bytes >= usable / 2 || usable <= 2 * GRANULE_BYTES);
  if (!stays) return move(address, usable, kind, bytes);
  if (kind_table[kind].zeroed) cut_off(address, kind, bytes, usable);
  return address;
}
