#include "alloc/central.h"

#include "alloc/account.h"
#include "base/atomic.h"
#include "base/bits.h"
#include "base/wait.h"
#include "meta/persist.h"
#include "os/os.h"
#include "page/pageheap.h"
#include "span/slots.h"

/* How many full unswept spans one allocation sweeps in search of a free slot before it takes fresh pages. */
enum { SEARCH_LIMIT = 64, SEARCH_MANY = 4 /* at once, at least */ };

/* Of the searches one in so many is timed, and counts for the others: the clock costs as much as the sweeping of a dead span. */
enum { TIMED_ONE_IN = 16 };

size_t central_swept_pages[SWEEPER_COUNT], central_freed_pages;

/* By kind, then class; a kind's array appears with its first span.  Atomic. */
static struct central *centrals[MIDDEN_KINDS_MAX];
static struct lock centrals_lock = LOCK_INIT(LOCK_RANK_KINDS);

struct central *central_if_exists(unsigned kind, unsigned size_class) {
  struct central *array = atomic_load_acquire(&centrals[kind]);
  return array == NULL ? NULL : &array[size_class];
}

struct central *central_of(unsigned kind, unsigned size_class) {
  struct central *existing = central_if_exists(kind, size_class);
  if (LIKELY(existing != NULL)) return existing;
  lock_acquire(&centrals_lock);
  struct central *array = centrals[kind];
  if (array == NULL) {
    array = persist_alloc(SIZE_CLASS_COUNT * sizeof *array, CACHE_LINE_BYTES, PERSIST_OTHER);
    for (unsigned i = 0; array != NULL && i < SIZE_CLASS_COUNT; i++) lock_init(&array[i].lock, LOCK_RANK_CENTRAL);
    atomic_store_release(&centrals[kind], array);
  }
  lock_release(&centrals_lock);
  return array == NULL ? NULL : &array[size_class];
}

/* Acquires: what is read of the span afterwards is no older. */
static struct central *central_of_span(const struct span *span) {
  unsigned kind = atomic_load_acquire(&span->kind), size_class = atomic_load_acquire(&span->size_class);
  return central_if_exists(kind, size_class);
}

static uint32_t generation_of(const struct span *span) { return atomic_load_acquire(&span->sweep_generation); }

static struct span *span_from(struct link *link) { return CONTAINER_OF(link, struct span, link); }

/* The step from h - 2 to h - 1; the span is on the unswept list `list`. */
static void claim_locked(struct list *list, struct span *span) {
  ASSERT(generation_of(span) == span_generation_now() - 2);
  list_remove(list, &span->link);
  atomic_store_relaxed(&span->sweep_generation, span_generation_now() - 1);
}

/* Debug: the step to h was made once. */
static void assert_first_sweep(struct span *span) {
#ifdef MIDDEN_ASSERTS
  ASSERT(span_state(span) == SPAN_IN_USE && generation_of(span) == span_generation_now() - 1);
  ASSERT(span->link.list == NULL && !span->in_cache);
  ASSERT(atomic_exchange_acq_rel(&span->swept_in, span_generation_now()) != span_generation_now());
#else
  (void)span;
#endif
}

/* The one place where a claimed span is swept.  Returns how many slots hold objects. */
static uint32_t sweep(struct span *span) {
  assert_first_sweep(span);
  return slots_sweep(span);
}

/* The step from h - 1 to h; pairs with the acquire in generation_of: who sees h sees the bits as swept.  A span with
 * objects makes it when it is a cache's, or under its central's lock when it is on its list, not before: who waits to
 * free a large object takes the span off that list next. */
static void finish_sweep(struct span *span) { atomic_store_release(&span->sweep_generation, span_generation_now()); }

static void count_swept(enum sweeper sweeper, size_t pages) {
  if (pages != 0) atomic_add_relaxed(&central_swept_pages[sweeper], pages);
}

static struct span *claim_first_locked(struct list *list) {
  if (list_is_empty(list)) return NULL;
  struct span *span = span_from(list->first);
  claim_locked(list, span);
  return span;
}

static size_t claim_some_locked(struct list *list, struct span **spans, size_t most) {
  size_t count = 0;
  while (count < most && (spans[count] = claim_first_locked(list)) != NULL) count++;
  return count;
}

static void change_lock(struct central **locked, struct central *wanted) {
  if (*locked == wanted) return;
  if (*locked != NULL) lock_release(&(*locked)->lock);
  if (wanted != NULL) lock_acquire(&wanted->lock);
  *locked = wanted;
}

/* Between the first look and the lock another thread may sweep and free the span, and a third make another one of the
 * structure: with the generation of now, so that the second look refuses it.  As long as it is h - 2 its kind and class
 * have not changed, and the lock was the right one: they were read before that (central_of_span). */
static bool claim(struct span *span, struct central **locked) {
  if (generation_of(span) != span_generation_now() - 2) return false;
  struct central *central = central_of_span(span);
  if (central == NULL) return false;
  change_lock(locked, central);
  bool claimed = generation_of(span) == span_generation_now() - 2 && span->link.list != NULL;
  if (claimed) claim_locked(span->link.list, span);
  return claimed;
}

size_t central_claim_many(struct span **spans, size_t count) {
  struct central *locked = NULL;
  size_t claimed = 0;
  for (size_t i = 0; i < count; i++) {
    if (claim(spans[i], &locked)) spans[claimed++] = spans[i];
  }
  change_lock(&locked, NULL);
  return claimed;
}

/* Lists a span that was just swept, or is fresh. */
static void list_swept_locked(struct central *central, struct span *span) {
  bool full = span->live_count == span->slot_count;
  struct list *lists = full ? central->full : central->partial;
  list_push_front(&lists[central_swept_side()], &span->link);
  finish_sweep(span);
}

static void list_swept_many(struct span *const *spans, size_t count) {
  struct central *locked = NULL;
  for (size_t i = 0; i < count; i++) {
    change_lock(&locked, central_of_span(spans[i]));
    list_swept_locked(locked, spans[i]);
  }
  change_lock(&locked, NULL);
}

/* Counts are of the running generation, and of the one before it. */
static void begin_counts_locked(struct central *central) {
  uint32_t generation = span_generation_now();
  if (central->counted_in == generation) return;
  central->taken_before = central->counted_in == generation - 2 ? central->taken : 0;
  central->taken = central->kept = 0;
  central->counted_in = generation;
}

/* Spans without objects go to their swept lists, as many as caches took in the last generation; returns how many do not, which are
 * in front then. */
static size_t keep_wanted(struct span **spans, size_t count) {
  struct central *locked = NULL;
  size_t rest = 0;
  for (size_t i = 0; i < count; i++) {
    change_lock(&locked, central_of_span(spans[i]));
    begin_counts_locked(locked);
    if (locked->kept < locked->taken_before) {
      locked->kept++;
      list_swept_locked(locked, spans[i]);
    } else {
      spans[rest++] = spans[i];
    }
  }
  change_lock(&locked, NULL);
  return rest;
}

static size_t free_dead(struct span *const *spans, size_t count) {
  size_t pages = 0;
  for (size_t i = 0; i < count; i++) {
    pages += spans[i]->page_count;
    finish_sweep(spans[i]);
    slots_destroy(spans[i]);
  }
  pageheap_free_many(&heap_pages, spans, count);
  if (pages != 0) atomic_add_relaxed(&central_freed_pages, pages);
  return pages;
}

size_t central_sweep_many(struct span *const *spans, size_t count, bool keeps_wanted) {
  struct span *live[CENTRAL_MANY] = {NULL}, *dead[CENTRAL_MANY] = {NULL};
  size_t live_count = 0, dead_count = 0;
  for (size_t i = 0; i < count; i++) {
    if (sweep(spans[i]) != 0) {
      live[live_count++] = spans[i];
    } else {
      dead[dead_count++] = spans[i];
    }
  }
  list_swept_many(live, live_count);
  if (keeps_wanted) dead_count = keep_wanted(dead, dead_count);
  return free_dead(dead, dead_count);
}

size_t central_claim_first(struct central *central, struct span **spans, size_t most) {
  unsigned unswept = central_unswept_side();
  lock_acquire(&central->lock);
  size_t count = claim_some_locked(&central->partial[unswept], spans, most);
  count += claim_some_locked(&central->full[unswept], spans + count, most - count);
  lock_release(&central->lock);
  return count;
}

void central_ensure_swept(struct span *span) {
  for (;;) {
    uint32_t generation = generation_of(span);
    if (generation == span_generation_now()) return;
    if (central_claim_many(&span, 1) != 0) {
      sweep(span);
      count_swept(SWEEPER_FREE, span->page_count);
      list_swept_many(&span, 1); /* even when empty: the caller holds an address in it */
      return;
    }
    wait_yield(); /* another thread is at it */
  }
}

struct span *central_chain(struct span *span, struct span *first) {
  span->in_cache = true;
  if (first != NULL) {
    span->link.next = &first->link;
    first->link.prev = &span->link;
  }
  return span;
}

/* Sweeps claimed spans; takes those that have a free slot out of them, at most `most`, and chains them. */
static struct span *sweep_and_choose(struct span **spans, size_t *count, unsigned most) {
  struct span *chain = NULL;
  size_t kept = 0, pages = 0;
  for (size_t i = 0; i < *count; i++) {
    struct span *span = spans[i];
    pages += span->page_count;
    if (sweep(span) < span->slot_count && most > 0) {
      most--;
      chain = central_chain(span, chain);
      finish_sweep(span);
    } else {
      spans[kept++] = span;
    }
  }
  count_swept(SWEEPER_ALLOCATION, pages);
  *count = kept;
  return chain;
}

/* Sweeps unswept spans of `list` until some have a free slot. */
static struct span *search_unswept_locked(struct central *central, struct list *list, size_t *tries, unsigned most) {
  struct span *spans[CENTRAL_MANY] = {NULL}, *chain = NULL;
  size_t many = min_size(max_size(SEARCH_MANY, most), CENTRAL_MANY);
  while (*tries > 0 && chain == NULL) {
    size_t count = claim_some_locked(list, spans, min_size(many, *tries));
    if (count == 0) return NULL;
    *tries -= count;
    lock_release(&central->lock);
    chain = sweep_and_choose(spans, &count, most);
    lock_acquire(&central->lock);
    for (size_t i = 0; i < count; i++) list_swept_locked(central, spans[i]);
  }
  return chain;
}

static struct span *search_all_unswept_locked(struct central *central, unsigned most) {
  unsigned unswept = central_unswept_side();
  size_t tries = SEARCH_LIMIT;
  if (list_is_empty(&central->partial[unswept]) && list_is_empty(&central->full[unswept])) return NULL;
  bool is_timed = central->searches++ % TIMED_ONE_IN == 0;
  uint64_t start = is_timed ? os_now_ns() : 0;
  struct span *chain = search_unswept_locked(central, &central->partial[unswept], &tries, most);
  if (chain == NULL) chain = search_unswept_locked(central, &central->full[unswept], &tries, most);
  if (is_timed) account_work(ACCOUNT_SWEEPING_BY_ALLOCATION, (os_now_ns() - start) * TIMED_ONE_IN);
  return chain;
}

static void give_locked(struct central *central, struct span *span) {
  span->link = (struct link){0};
  span->in_cache = false;
  bool full = span->free_index == span->slot_count * (size_t)span->slot_bytes_small;
  list_push_front(full ? &central->full[central_swept_side()] : &central->partial[central_swept_side()], &span->link);
}

static void give_chain_locked(struct central *central, struct span *any) {
  struct link *link = any == NULL ? NULL : &any->link, *next;
  while (link != NULL && link->prev != NULL) link = link->prev;
  for (; link != NULL; link = next) {
    next = link->next;
    give_locked(central, span_from(link));
  }
}

void central_give(struct central *central, struct span *any) {
  lock_acquire(&central->lock);
  give_chain_locked(central, any);
  lock_release(&central->lock);
}

static struct span *take_swept_locked(struct central *central, unsigned most) {
  struct span *chain = NULL;
  struct link *link;
  while (most-- > 0 && (link = list_pop_front(&central->partial[central_swept_side()])) != NULL)
    chain = central_chain(span_from(link), chain);
  return chain;
}

/* Where there is none, the cache makes `most`. */
static void count_taken_locked(struct central *central, struct span *chain, unsigned most) {
  unsigned count = 0;
  for (struct span *span = chain; span != NULL; span = central_chain_next(span)) count++;
  begin_counts_locked(central);
  central->taken += chain == NULL ? most : count;
}

struct span *central_exchange(struct central *central, struct span *used_up, unsigned most) {
  lock_acquire(&central->lock);
  give_chain_locked(central, used_up);
  struct span *chain = take_swept_locked(central, most);
  if (chain == NULL) chain = search_all_unswept_locked(central, most);
  count_taken_locked(central, chain, most);
  lock_release(&central->lock);
  return chain;
}

void central_add_large(struct span *span) { list_swept_many(&span, 1); }

void central_remove_large(struct span *span) {
  struct central *central = central_of_span(span);
  lock_acquire(&central->lock);
  list_remove(span->link.list, &span->link);
  lock_release(&central->lock);
}
