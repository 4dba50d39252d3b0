#include "alloc/cache.h"

#include <string.h>

#include "alloc/account.h"
#include "alloc/central.h"
#include "base/bits.h"
#include "base/wait.h"
#include "meta/persist.h"
#include "page/pageheap.h"
#include "span/guard.h"
#include "span/mark_bits.h"
#include "span/slots.h"
#include "span/sticky.h"

enum {
  ACCOUNT_STEP_BYTES = 32768,  /* most that a cache keeps out of account_live_bytes */
  FREED_BYTES_MAX = 64 * 1024, /* most that a bin keeps of freed slots; the rest waits for the next collection */
  CHAIN_MOST = 8,              /* spans of a chain, */
  CHAIN_BYTES = 64 * 1024,     /* and how large they are together, if there is more than one */
};

NOT_A_ROOT struct cache cache_none;
THREAD_LOCAL struct cache *cache_self = &cache_none;
bool cache_single_slots;
uint32_t cache_black_cycle;
NOT_A_ROOT struct cache_retired cache_retired;

bool cache_window_holds(struct cache *cache, const struct span *span, uintptr_t slot) {
  const struct cache_bin *bin = cache_bin_of(cache, span->kind, span->size_class);
  return bin != NULL && slot - (uintptr_t)bin->next < (uintptr_t)bin->limit - (uintptr_t)bin->next;
}

bool cache_find_object(struct cache *cache, const void *address, struct object *object) {
  if (!object_find(address, object) || cache_window_holds(cache, object->span, object->start)) return false;
  if (!guard_active) return true;
  size_t bytes = guard_size(object->span, object->start);
  return bytes == 0 || (uintptr_t)address - object->start < bytes; /* 0: damaged; let its freeing tell */
}

static bool add_row(struct cache *cache, unsigned kind) {
  if (kind < CACHE_INLINE_KINDS || cache->more_rows[kind] != NULL) return true;
  struct cache_row *row = persist_alloc(sizeof *row, CACHE_LINE_BYTES, PERSIST_MUTATOR);
  atomic_store_release(&cache->more_rows[kind], row); /* pairs with cache_row_of */
  return row != NULL;
}

static void set_used(struct cache_row *row, unsigned size_class, bool used) {
  uint64_t *word = &row->used[size_class / 64], bit = UINT64_C(1) << size_class % 64;
  if (((*word & bit) != 0) != used) atomic_store_relaxed(word, *word ^ bit);
}

void cache_account(struct cache *cache) {
  if (cache->unaccounted_bytes == 0) return;
  account_add(cache->unaccounted_bytes);
  atomic_store_relaxed(&cache->unaccounted_bytes, (size_t)0);
}

static void account_later(struct cache *cache, size_t bytes) {
  atomic_store_relaxed(&cache->unaccounted_bytes, cache->unaccounted_bytes + bytes);
  if (cache->unaccounted_bytes >= ACCOUNT_STEP_BYTES) cache_account(cache);
}

/* Around a change of a window and its count. */
static void begin_change(struct cache *cache) { atomic_store_relaxed(&cache->version, cache->version + 1); }
static void end_change(struct cache *cache) { atomic_store_release(&cache->version, cache->version + 1); }

void cache_count_large(struct cache *cache, unsigned kind, size_t bytes) {
  enum tally_row row = tally_row_of(kind);
  begin_change(cache);
  tally_count(&cache->claimed.objects[row][0], 1);
  tally_count(&cache->claimed.large_bytes[row], bytes);
  end_change(cache);
  account_later(cache, bytes);
}

void cache_count_large_freed(struct cache *cache, unsigned kind, size_t bytes) {
  enum tally_row row = tally_row_of(kind);
  atomic_store_relaxed(&cache->has_freed, 1u);
  tally_count(&cache->freed.objects[row][0], 1);
  tally_count(&cache->freed.large_bytes[row], bytes);
}

/* The division by the slot's size, which every window would pay, is a multiplication. */
static size_t slots_in(size_t bytes, unsigned size_class) {
  return size_class_slot_of(bytes, size_class_magic[size_class]);
}

/* A window's count and bounds change together.  The program stores the addresses as it likes, and a marker beside it may find one
 * before this thread stores anything else: the slots are cleared and allocated by then. */
ALWAYS_INLINE void open_window(struct cache *cache, struct cache_bin *bin, unsigned kind, unsigned size_class,
                               struct slot_run run, size_t slots) {
  uint64_t *claimed = &cache->claimed.objects[tally_row_of(kind)][size_class];
  if (UNLIKELY(kind_table[kind].root)) slots_note_root(run.start);
  begin_change(cache);
  atomic_store_release(&bin->next, (char *)run.start);
  atomic_signal_barrier(); /* a handler between the two stores sees an empty window or the new one */
  atomic_store_release(&bin->limit, (char *)run.end);
  tally_count(claimed, slots);
  if (UNLIKELY(kind == KIND_TINY)) tally_count(&cache->tiny_slots, slots);
  end_change(cache);
  atomic_publish();
  account_later(cache, run.end - run.start);
}

/* A slot that this thread freed becomes a window of one. */
static bool reopen_freed(struct cache *cache, struct cache_bin *bin, unsigned kind, unsigned size_class) {
  void *slot = bin->freed;
  if (slot == NULL) return false;
  bin->freed = *(void **)slot;
  bin->freed_count--;
  size_t slot_bytes = size_class_bytes[size_class];
  if (kind_table[kind].zeroed) memset(slot, 0, slot_bytes);
  struct slot_run run = {.start = (uintptr_t)slot, .end = (uintptr_t)slot + slot_bytes};
  if (cache_is_black(cache)) {
    sticky_note_black(run.start, run.end, slot_bytes);
    mark_bit_set(&heap_arena, mark_side(), run.start);
  }
  mark_bit_set(&heap_arena, alloc_side(), run.start);
  open_window(cache, bin, kind, size_class, run, 1);
  return true;
}

static struct span *fresh_chain(unsigned kind, unsigned size_class, unsigned most) {
  struct span *spans[CHAIN_MOST], *chain = NULL;
  size_t count = pageheap_alloc_many(&heap_pages, size_class_pages[size_class], spans, most);
  while (count-- > 0) {
    slots_init(spans[count], size_class, kind);
    chain = central_chain(spans[count], chain);
  }
  return chain;
}

/* A chain costs the locks that one span would.  A bin that is used little from one cycle to the next has few spans: each chain may
 * be longer by one than that before it, as far as the size is reasonable. */
static unsigned chain_length(struct cache_bin *bin, unsigned size_class) {
  size_t most = max_size(CHAIN_BYTES / ((size_t)size_class_pages[size_class] << PAGE_SHIFT), 1);
  if (bin->chains < CHAIN_MOST) bin->chains++;
  return (unsigned)min_size(bin->chains, most);
}

/* The bin's next span comes in the place of the one that is used up, if any; false where there is no memory. */
static bool next_span(struct cache *cache, struct cache_bin *bin, unsigned kind, unsigned size_class) {
  if (bin->span != NULL && central_chain_next(bin->span) != NULL) {
    bin->span = central_chain_next(bin->span);
    return true;
  }
  struct central *central = central_of(kind, size_class);
  if (central == NULL) return false;
  set_used(cache_row_of(cache, kind), size_class, true);
  unsigned most = chain_length(bin, size_class);
  bin->span = central_exchange(central, bin->span, most);
  if (bin->span == NULL) bin->span = fresh_chain(kind, size_class, most);
  return bin->span != NULL;
}

/* A window of at most `most` bytes, but one slot at least. */
static NOINLINE enum cache_filled fill(struct cache *cache, unsigned kind, unsigned size_class, size_t most) {
  if (UNLIKELY(!add_row(cache, kind))) return CACHE_NO_MEMORY;
  struct cache_bin *bin = cache_bin_of(cache, kind, size_class);
  if (reopen_freed(cache, bin, kind, size_class)) return CACHE_FILLED;
  bool zeroed = kind_table[kind].zeroed && !guard_active;
  do {
    struct slot_run run;
    if (bin->span != NULL && slots_claim(bin->span, most, zeroed, cache_is_black(cache), &run)) {
      open_window(cache, bin, kind, size_class, run, slots_in(run.end - run.start, size_class));
      return CACHE_FILLED;
    }
  } while (next_span(cache, bin, kind, size_class));
  return CACHE_NO_MEMORY;
}

static size_t window_bytes(unsigned size_class) {
  return cache_single_slots ? 1 : cache_window_bytes(size_class_bytes[size_class]);
}

void cache_follow_profile(struct cache *cache) {
  if (sampler_follow(&cache->sampler)) cache_retire(cache);
}

static NOINLINE enum cache_filled fill_and_sample(struct cache *cache, unsigned kind, unsigned size_class) {
  cache_follow_profile(cache);
  size_t most = sampler_window_bytes(&cache->sampler, window_bytes(size_class));
  if (fill(cache, kind, size_class, most) == CACHE_NO_MEMORY) return CACHE_NO_MEMORY;
  const struct cache_bin *bin = cache_bin_of(cache, kind, size_class);
  bool is_sampled = sampler_pass(&cache->sampler, (size_t)(bin->limit - bin->next));
  return is_sampled ? CACHE_SAMPLED : CACHE_FILLED;
}

enum cache_filled cache_refill(struct cache *cache, unsigned kind, unsigned size_class) {
  if (UNLIKELY(atomic_load_relaxed(&sample_distance) != 0)) return fill_and_sample(cache, kind, size_class);
  return fill(cache, kind, size_class, window_bytes(size_class));
}

bool cache_samples_large(struct cache *cache, size_t bytes) {
  if (LIKELY(atomic_load_relaxed(&sample_distance) == 0)) return false;
  cache_follow_profile(cache);
  return sampler_pass(&cache->sampler, bytes);
}

/* Keeps a freed slot for the next window; false where there is no room for it. */
static bool keep_freed(struct cache *cache, const struct span *span, uintptr_t slot) {
  if (!add_row(cache, span->kind)) return false;
  struct cache_bin *bin = cache_bin_of(cache, span->kind, span->size_class);
  if (bin->freed_count * (size_t)span->slot_bytes_small >= FREED_BYTES_MAX) return false;
  set_used(cache_row_of(cache, span->kind), span->size_class, true);
  *(void **)slot = bin->freed;
  bin->freed = (void *)slot;
  bin->freed_count++;
  return true;
}

static void count_freed(struct cache *cache, size_t bytes) {
  if (cache->unaccounted_bytes >= bytes) {
    atomic_store_relaxed(&cache->unaccounted_bytes, cache->unaccounted_bytes - bytes);
  } else {
    account_subtract(bytes);
  }
}

bool cache_free_slot(struct cache *cache, struct span *span, uintptr_t slot) {
  size_t slot_bytes = span->slot_bytes_small;
  /* The acquire pairs with the release in slots_claim: who sees the index past the slot knows that it was passed over. */
  bool is_mine = slot - span->start < atomic_load_acquire(&span->free_index);
  if (UNLIKELY(guard_active)) guard_freed(span, slot);
  if (!mark_bit_clear(&heap_arena, alloc_side(), slot)) return false;
  sticky_forget(span, slot, slot + slot_bytes);
  atomic_store_relaxed(&cache->has_freed, 1u);
  tally_count(&cache->freed.objects[tally_row_of(span->kind)][span->size_class], 1);
  /* What is not kept while it could be counts as live still: the next collection finds it.  A guarded slot is never
   * kept, so that its use after the free shows for as long as possible. */
  if (!is_mine || (!guard_active && keep_freed(cache, span, slot))) count_freed(cache, slot_bytes);
  return true;
}

void cache_each_bin(struct cache *cache, cache_bin_fn *function, void *argument) {
  unsigned kinds = atomic_load_acquire(&kind_count);
  for (unsigned kind = 0; kind < kinds; kind++) {
    struct cache_row *row = cache_row_of(cache, kind);
    for (unsigned word = 0; row != NULL && word < CACHE_USED_WORDS; word++) {
      for (uint64_t rest = atomic_load_relaxed(&row->used[word]); rest != 0; rest &= rest - 1) {
        unsigned size_class = word * 64 + lowest_bit(rest);
        function(cache, &row->bins[size_class], kind, size_class, argument);
      }
    }
  }
}

static void return_spans(struct cache *cache, struct cache_bin *bin, unsigned kind, unsigned size_class) {
  if (bin->span != NULL) central_give(central_if_exists(kind, size_class), bin->span);
  bin->span = NULL;
  bin->chains = 0;
  bin->freed = NULL;
  bin->freed_count = 0;
  set_used(cache_row_of(cache, kind), size_class, !cache_bin_is_empty(bin));
}

static void flush_bin(struct cache *cache, struct cache_bin *bin, unsigned kind, unsigned size_class, void *argument) {
  (void)argument;
  mark_bits_set_slots(&heap_arena, mark_side(), (uintptr_t)bin->next, (uintptr_t)bin->limit,
                      size_class_bytes[size_class]);
  return_spans(cache, bin, kind, size_class);
}

void cache_flush_stw(struct cache *cache) {
  cache_account(cache);
  cache_each_bin(cache, flush_bin, NULL);
}

/* What waits in the window is no object yet, and will be young; its owner may be taking some of it. */
static void give_span(struct cache *cache, struct cache_bin *bin, unsigned kind, unsigned size_class, void *argument) {
  (void)argument;
  uintptr_t next = (uintptr_t)atomic_load_relaxed(&bin->next), limit = (uintptr_t)atomic_load_relaxed(&bin->limit);
  sticky_note_black(next, limit, size_class_bytes[size_class]);
  return_spans(cache, bin, kind, size_class);
}

void cache_give_spans(struct cache *cache) { cache_each_bin(cache, give_span, NULL); }

/* Slots that were claimed and not allocated. */
static uint64_t window_slots(const struct cache_bin *bin, unsigned size_class) {
  const char *limit = atomic_load_acquire(&bin->limit), *next = atomic_load_acquire(&bin->next);
  return slots_in((size_t)(limit - next), size_class);
}

static void blacken_bin(struct cache *cache, struct cache_bin *bin, unsigned kind, unsigned size_class,
                        void *argument) {
  (void)cache;
  struct tally *marked = argument;
  uintptr_t next = (uintptr_t)bin->next, limit = (uintptr_t)bin->limit;
  size_t slot_bytes = size_class_bytes[size_class];
  sticky_note_black(next, limit, slot_bytes);
  marked->objects[tally_row_of(kind)][size_class] -=
      mark_bits_count_and_set_slots(&heap_arena, mark_side(), next, limit, slot_bytes);
}

void cache_blacken(struct cache *cache, struct tally *marked) {
  atomic_store_relaxed(&cache->black_cycle, cache_black_cycle);
  cache_each_bin(cache, blacken_bin, marked);
}

/* The window's slots count as never claimed. */
static void close_window(struct cache *cache, struct cache_bin *bin, unsigned kind, unsigned size_class) {
  uint64_t left = window_slots(bin, size_class);
  begin_change(cache);
  atomic_store_release(&bin->next, NULL);
  atomic_store_release(&bin->limit, NULL);
  tally_count(&cache->claimed.objects[tally_row_of(kind)][size_class], -left);
  if (kind == KIND_TINY) tally_count(&cache->tiny_slots, -left);
  end_change(cache);
}

/* Slots that nobody has allocated lose their marks.  Those of a black thread were never counted. */
static void forget_marks(struct cache *cache, const struct span *span, uintptr_t start, uintptr_t end) {
  if (cache_is_black(cache)) {
    sticky_give_up_black(start, end, span_slot_bytes(span));
    mark_bits_clear_slots(&heap_arena, mark_side(), start, end, span_slot_bytes(span));
  } else if (sticky_marks || atomic_load_relaxed(&span_marking)) {
    sticky_forget_slow(span, start, end);
  }
}

static void retire_bin(struct cache *cache, struct cache_bin *bin, unsigned kind, unsigned size_class, void *argument) {
  (void)argument;
  uintptr_t next = (uintptr_t)bin->next, limit = (uintptr_t)bin->limit;
  if (next < limit) {
    close_window(cache, bin, kind, size_class);
    struct span *span = object_span(next);
    central_ensure_swept(span);
    /* The marks first: another thread may own the span by now, and claims the slots once they are free.  A marker that comes between
     * leaves one slot marked that is none, until the next cycle; the other way round a mark of the new owner's would go. */
    forget_marks(cache, span, next, limit);
    mark_bits_clear_slots(&heap_arena, alloc_side(), next, limit, size_class_bytes[size_class]);
  }
  return_spans(cache, bin, kind, size_class);
}

void cache_retire(struct cache *cache) {
  cache_account(cache);
  cache_each_bin(cache, retire_bin, NULL);
}

/* ---- counting ---- */

struct counting {
  struct tally allocated;
  uint64_t tiny_slots;
};

static void subtract_window(struct cache *cache, struct cache_bin *bin, unsigned kind, unsigned size_class,
                            void *argument) {
  (void)cache;
  struct counting *counting = argument;
  uint64_t left = window_slots(bin, size_class);
  counting->allocated.objects[tally_row_of(kind)][size_class] -= left;
  if (kind == KIND_TINY) counting->tiny_slots -= left;
}

/* Two tiny objects for each slot that left its window, less the one that the last slot still has room for. */
static uint64_t count_tiny(const struct cache *cache, uint64_t slots) {
  const char *next = atomic_load_acquire(&cache->tiny_next), *limit = atomic_load_acquire(&cache->tiny_limit);
  return 2 * slots - (slots != 0 && next != limit);
}

void cache_read_allocated(struct cache *cache, struct tally *allocated, uint64_t *tiny_allocations) {
  struct counting counting;
  for (;;) {
    uint64_t version = atomic_load_acquire(&cache->version);
    if (version == 0) return;
    if (version % 2 == 0) {
      counting = (struct counting){.tiny_slots = atomic_load_acquire(&cache->tiny_slots)};
      tally_add(&counting.allocated, &cache->claimed);
      cache_each_bin(cache, subtract_window, &counting);
      if (atomic_load_relaxed(&cache->version) == version) break;
    }
    wait_yield(); /* a few stores, and it is even again */
  }
  tally_add(allocated, &counting.allocated);
  *tiny_allocations += count_tiny(cache, counting.tiny_slots);
}

void cache_read_freed(const struct cache *cache, struct tally *freed) {
  if (atomic_load_relaxed(&cache->has_freed) != 0) tally_add(freed, &cache->freed);
}

void cache_fold_counts_locked(struct cache *cache) {
  cache_read_allocated(cache, &cache_retired.allocated, &cache_retired.tiny_allocations);
  cache_read_freed(cache, &cache_retired.freed);
}
