#include "gc/special.h"

#include <errno.h>
#include <string.h>

#include "base/atomic.h"
#include "base/attr.h"
#include "base/bits.h"
#include "base/check.h"
#include "gc/collector.h"
#include "meta/fixalloc.h"
#include "os/os.h"
#include "span/mark_bits.h"
#include "span/object.h"

enum {
  STRIPES = 64,
  SMALL_BYTES = 32,
  RECORD_BYTES = 64,
  BUCKETS_FIRST = 4,      /* of a new set, at most */
  BUCKETS_STEP_SHIFT = 2, /* a set that grows has four times as many */
  RECORDS_A_BUCKET = 2,   /* more on average: the set grows */
  REGISTRY_FIRST = 512,
  VISIT_STEP = 8,    /* sets that a marker takes at a time */
  UNMARKED_STEP = 64 /* objects that are noted at a time */
};

struct watch {
  struct special special;
  special_died_fn *died;
  void *argument;
};

/* Buckets of a set, by size: the last serves spans of 512 slots. */
static const uint16_t set_buckets[] = {1, 4, 16, 64, 256, 512};
enum { SET_SIZES = COUNT_OF(set_buckets) };

static NOT_A_ROOT struct { struct lock lock; } CACHE_ALIGNED stripes[STRIPES];

static struct fixalloc small_records, records, set_pools[SET_SIZES];

/* Every set, in no order. */
static struct {
  struct lock lock;
  struct special_set **sets; /* all under lock */
  size_t count, capacity;
  size_t next; /* atomic; the world stopped: the set to be visited next */
  bool frozen; /* under lock */
} registry = {.lock = LOCK_INIT(LOCK_RANK_SPECIAL_SETS)};

size_t special_totals[SPECIAL_KINDS];

void special_init(void) {
  fixalloc_init(&small_records, SMALL_BYTES, false, PERSIST_SPECIAL);
  fixalloc_init(&records, RECORD_BYTES, false, PERSIST_SPECIAL);
  for (size_t i = 0; i < SET_SIZES; i++) {
    size_t bytes = sizeof(struct special_set) + set_buckets[i] * sizeof(struct special *);
    fixalloc_init(&set_pools[i], bytes, false, PERSIST_SPECIAL);
  }
  for (size_t i = 0; i < STRIPES; i++) lock_init(&stripes[i].lock, LOCK_RANK_SPECIALS);
}

/* ---- records ---- */

static bool is_small_kind(uint8_t kind) {
  return kind == SPECIAL_WEAK || kind == SPECIAL_EPHEMERON || kind == SPECIAL_HOLDER;
}

static bool is_many(uint8_t kind) {
  return kind == SPECIAL_QUEUED || kind == SPECIAL_LINK_BEFORE || kind == SPECIAL_LINK_AFTER || kind == SPECIAL_CLEANUP;
}

/* Records may take much more memory than the objects that they are of, and the heap that these lie in does not grow with them: where the
 * limit is on what both hold, collections follow this memory too. */
static void look_at_memory(void) {
  static size_t seen_bytes; /* atomic */
  size_t bytes = persist_bytes(PERSIST_SPECIAL);
  if (LIKELY(bytes == atomic_load_relaxed(&seen_bytes))) return;
  atomic_store_relaxed(&seen_bytes, bytes);
  collector_press_for_metadata();
}

void *special_alloc(bool is_small) {
  void *record = fixalloc_alloc(is_small ? &small_records : &records);
  look_at_memory();
  return record;
}

void special_free(struct special *record) {
  fixalloc_free(is_small_kind(record->kind) ? &small_records : &records, record);
}

struct lock *special_lock(const struct span *span) {
  size_t page = arena_page_of(&heap_arena, span->start);
  return &stripes[page % STRIPES].lock;
}

/* ---- the registry ---- */

static int grow_registry(void) {
  size_t capacity = max_size(registry.capacity * 2, REGISTRY_FIRST);
  struct special_set **sets = os_map(capacity * sizeof(struct special_set *));
  if (sets == NULL) return -ENOMEM;
  persist_charge(PERSIST_SPECIAL, (ptrdiff_t)((capacity - registry.capacity) * sizeof(struct special_set *)));
  if (registry.count != 0) memcpy(sets, registry.sets, registry.count * sizeof(struct special_set *));
  if (registry.sets != NULL) os_unmap(registry.sets, registry.capacity * sizeof(struct special_set *));
  registry.sets = sets;
  registry.capacity = capacity;
  return 0;
}

static int enroll(struct special_set *set) {
  lock_acquire(&registry.lock);
  int error = registry.count == registry.capacity ? grow_registry() : 0;
  if (error == 0) {
    set->place = registry.count++;
    registry.sets[set->place] = set;
  }
  lock_release(&registry.lock);
  return error;
}

/* The last set takes the place of the one that goes. */
static void strike_locked(const struct special_set *set) {
  struct special_set *last = registry.sets[--registry.count];
  last->place = set->place;
  registry.sets[set->place] = last;
}

/* False where it stays. */
static bool strike(const struct special_set *set) {
  lock_acquire(&registry.lock);
  bool struck = !registry.frozen;
  if (struck) strike_locked(set);
  lock_release(&registry.lock);
  return struck;
}

static void reenroll(struct special_set *set, const struct special_set *as) {
  lock_acquire(&registry.lock);
  set->place = as->place;
  registry.sets[set->place] = set;
  lock_release(&registry.lock);
}

/* ---- sets ---- */

static size_t bucket_count(const struct span *span, unsigned shift) { return ((span_bytes(span) - 1) >> shift) + 1; }

/* Finer parts than slots would stay empty. */
static unsigned least_shift(const struct span *span) { return highest_bit(span_slot_bytes(span)); }

static unsigned first_shift(const struct span *span) {
  unsigned shift = least_shift(span);
  while (bucket_count(span, shift) > BUCKETS_FIRST) shift++;
  return shift;
}

static struct special_set *new_set(struct span *span, unsigned shift) {
  unsigned size = 0;
  while (set_buckets[size] < bucket_count(span, shift)) size++;
  struct special_set *set = fixalloc_alloc(&set_pools[size]);
  if (set == NULL) return NULL;
  memset(set, 0, sizeof *set + set_buckets[size] * sizeof set->buckets[0]);
  set->span = span;
  set->bucket_shift = (uint8_t)shift;
  set->size = (uint8_t)size;
  return set;
}

static void free_set(struct special_set *set) { fixalloc_free(&set_pools[set->size], set); }

static struct special **bucket_of(struct special_set *set, uintptr_t object) {
  return &set->buckets[(object - set->span->start) >> set->bucket_shift];
}

static struct special_set *make_set(struct span *span) {
  struct special_set *set = new_set(span, first_shift(span));
  if (set == NULL) return NULL;
  if (enroll(set) != 0) {
    free_set(set);
    return NULL;
  }
  atomic_store_relaxed(&span->has_specials, true);
  atomic_store_relaxed(&span->specials, set);
  return set;
}

static void drop_set(struct span *span) {
  struct special_set *set = span->specials;
  if (!strike(set)) return;
  atomic_store_relaxed(&span->specials, (struct special_set *)NULL);
  free_set(set);
}

/* Deals the list out anew.  It is in order, so each record goes behind the one before it. */
static void deal(struct special_set *from, struct special_set *to) {
  struct special **place = NULL, **bucket = NULL;
  for (size_t i = 0; i < bucket_count(from->span, from->bucket_shift); i++) {
    for (struct special *record = from->buckets[i], *next; record != NULL; record = next) {
      next = record->next;
      struct special **wanted = bucket_of(to, record->object);
      if (wanted != bucket) place = bucket = wanted;
      record->next = NULL;
      *place = record;
      place = &record->next;
    }
  }
}

static size_t count_records(const struct special_set *set) {
  size_t count = 0;
  for (int kind = 0; kind < SPECIAL_KINDS; kind++) count += set->counts[kind];
  return count;
}

/* Without memory the set stays as it is: slower, and whole. */
static void grow_if_crowded(struct span *span) {
  struct special_set *set = span->specials;
  unsigned least = least_shift(span), shift = set->bucket_shift;
  if (shift == least || count_records(set) <= RECORDS_A_BUCKET * bucket_count(span, shift)) return;
  struct special_set *larger = new_set(span, (unsigned)max_size(least, shift - min_size(shift, BUCKETS_STEP_SHIFT)));
  if (larger == NULL) return;
  memcpy(larger->counts, set->counts, sizeof set->counts);
  larger->refers = set->refers;
  larger->death = set->death;
  deal(set, larger);
  reenroll(larger, set);
  atomic_store_relaxed(&span->specials, larger);
  free_set(set);
}

/* ---- one record ---- */

/* Where the record of an object and kind stands in the list, or would stand. */
static struct special **place_of(struct special_set *set, uintptr_t object, uint8_t kind) {
  struct special **place = bucket_of(set, object);
  while (*place != NULL && ((*place)->object < object || ((*place)->object == object && (*place)->kind < kind)))
    place = &(*place)->next;
  return place;
}

static bool is_at(const struct special *record, uintptr_t object, uint8_t kind) {
  return record != NULL && record->object == object && record->kind == kind;
}

static void ring_append(struct special_many *first, struct special_many *record) {
  record->next_alike = first;
  record->previous_alike = first->previous_alike;
  first->previous_alike->next_alike = record;
  first->previous_alike = record;
}

void special_note_referring_locked(struct special_set *set) {
  set->refers = true;
  set->marking = 0;
}

/* In the ring of the first of its kind, or as the first. */
static void join_kind_locked(struct special_set *set, struct special *record, struct special *first) {
  struct special_many *many = (struct special_many *)record;
  if (first != NULL) {
    ring_append((struct special_many *)first, many);
    return;
  }
  if (is_many(record->kind)) many->next_alike = many->previous_alike = many;
  set->counts[record->kind]++;
  atomic_add_relaxed(&special_totals[record->kind], (size_t)1);
}

int special_add_locked(struct span *span, struct special *record) {
  struct special_set *set = span->specials;
  if (set == NULL) set = make_set(span);
  if (set == NULL) return -ENOMEM;
  struct special **place = place_of(set, record->object, record->kind);
  struct special *first = is_at(*place, record->object, record->kind) ? *place : NULL;
  if (first != NULL && !is_many(record->kind)) return -EEXIST;
  if (record->refers) special_note_referring_locked(set);
  if (record->kind == SPECIAL_EPHEMERON) set->marking = 0;
  join_kind_locked(set, record, first);
  if (first != NULL) return 0;
  record->next = *place;
  *place = record;
  grow_if_crowded(span);
  return 0;
}

struct special *special_find_locked(const struct span *span, uintptr_t object, enum special_kind kind) {
  struct special_set *set = span->specials;
  if (set == NULL || set->counts[kind] == 0) return NULL;
  struct special *record = *place_of(set, object, (uint8_t)kind);
  return is_at(record, object, (uint8_t)kind) ? record : NULL;
}

/* Takes a record out of its ring; the one behind it, or NULL. */
static struct special *ring_remove(struct special *record) {
  struct special_many *many = (struct special_many *)record;
  if (!is_many(record->kind) || many->next_alike == many) return NULL;
  struct special_many *next = many->next_alike;
  next->previous_alike = many->previous_alike;
  many->previous_alike->next_alike = next;
  many->next_alike = many->previous_alike = many;
  return &next->special;
}

void special_remove_locked(struct span *span, struct special *record) {
  struct special_set *set = span->specials;
  struct special **place = place_of(set, record->object, record->kind);
  bool is_listed = *place == record;
  struct special *heir = ring_remove(record);
  if (is_listed && heir != NULL) {
    heir->next = record->next;
    *place = heir;
  } else if (is_listed) {
    *place = record->next;
    set->counts[record->kind]--;
    atomic_sub_relaxed(&special_totals[record->kind], (size_t)1);
    if (count_records(set) == 0) drop_set(span);
  }
  record->object = 0;
}

/* ---- the collector's ---- */

void special_restart(void) { atomic_store_relaxed(&registry.next, (size_t)0); }

size_t special_set_count_stw(void) { return registry.count; }

void special_visit_share_stw(special_visit_fn *visit, void *argument, unsigned marker) {
  for (;;) {
    size_t from = atomic_add_relaxed(&registry.next, (size_t)VISIT_STEP);
    if (from >= registry.count) return;
    size_t end = min_size(from + VISIT_STEP, registry.count);
    for (size_t i = from; i < end; i++) visit(registry.sets[i], argument, marker);
  }
}

/* An acquire: an ephemeron is looked at after its key (gc/cell.h). */
static bool is_marked(uintptr_t object) {
  return (atomic_load_acquire(mark_word_of(&heap_arena, mark_side(), object)) & mark_mask_of(object)) != 0;
}

static void count_dropped(struct special_set *set, const uint16_t *dropped) {
  for (int kind = 0; kind < SPECIAL_KINDS; kind++) {
    if (dropped[kind] == 0) continue;
    set->counts[kind] = (uint16_t)(set->counts[kind] - dropped[kind]);
    atomic_sub_relaxed(&special_totals[kind], (size_t)dropped[kind]);
  }
}

void special_filter(struct special_set *set, special_keep_fn *keep, void *argument) {
  uint16_t dropped[SPECIAL_KINDS] = {0};
  uintptr_t object = 0;
  bool marked = false;
  for (size_t i = 0; i < bucket_count(set->span, set->bucket_shift); i++) {
    for (struct special **place = &set->buckets[i]; *place != NULL;) {
      struct special *record = *place, *next = record->next;
      __builtin_prefetch(next);
      if (record->object != object) {
        object = record->object;
        marked = is_marked(object);
      }
      if (keep(record, marked, argument)) {
        place = &record->next;
        continue;
      }
      dropped[record->kind]++;
      *place = next;
    }
  }
  count_dropped(set, dropped);
}

void special_set_kind(struct special *record, enum special_kind kind) {
  struct special_set *set = object_span(record->object)->specials;
  ASSERT(*place_of(set, record->object, record->kind) == record);
  struct special *first = is_at(record->next, record->object, (uint8_t)kind) ? record->next : NULL;
  if (first != NULL) *place_of(set, record->object, record->kind) = first;
  set->counts[record->kind]--;
  atomic_sub_relaxed(&special_totals[record->kind], (size_t)1);
  record->kind = (uint8_t)kind;
  join_kind_locked(set, record, first);
}

void special_drop_empty_sets_stw(void) {
  for (size_t i = registry.count; i-- > 0;) {
    struct special_set *set = registry.sets[i];
    set->death = DEATH_UNKNOWN;
    if (count_records(set) != 0) continue;
    atomic_store_relaxed(&set->span->specials, (struct special_set *)NULL);
    strike_locked(set);
    free_set(set);
  }
}

/* ---- the collector's, while the world runs ---- */

static void set_frozen(bool frozen) {
  lock_acquire(&registry.lock);
  registry.frozen = frozen;
  lock_release(&registry.lock);
}

void special_freeze(void) { set_frozen(true); }

static size_t count_sets(void) {
  lock_acquire(&registry.lock);
  size_t count = registry.count;
  lock_release(&registry.lock);
  return count;
}

/* The span of the set at a place, or NULL.  A set that grows is freed; its span stays. */
static struct span *span_at(size_t place) {
  lock_acquire(&registry.lock);
  struct span *span = place < registry.count ? registry.sets[place]->span : NULL;
  lock_release(&registry.lock);
  return span;
}

bool special_visit_some_running(size_t *place, size_t most, special_visit_fn *visit, void *argument) {
  size_t count = count_sets(), end = count - *place > most ? *place + most : count;
  for (; *place < end; ++*place) {
    struct span *span = span_at(*place);
    lock_acquire(special_lock(span));
    visit(span->specials, argument, 0);
    lock_release(special_lock(span));
  }
  return end < count;
}

void special_visit_running(special_visit_fn *visit, void *argument) {
  size_t place = 0;
  special_visit_some_running(&place, SIZE_MAX, visit, argument);
}

struct unmarked {
  uint8_t kind;
  uintptr_t after; /* objects up to it were visited */
  size_t count;
  uintptr_t objects[UNMARKED_STEP];
};

static bool note_unmarked(struct special *record, bool marked, void *argument) {
  struct unmarked *unmarked = argument;
  bool wanted = !marked && record->kind == unmarked->kind && record->object > unmarked->after;
  if (wanted && unmarked->count < UNMARKED_STEP) unmarked->objects[unmarked->count++] = record->object;
  return true;
}

/* The next ones of a span's set, in order. */
static void find_unmarked(struct span *span, struct unmarked *unmarked) {
  unmarked->count = 0;
  lock_acquire(special_lock(span));
  struct special_set *set = span->specials;
  if (set->refers && set->counts[unmarked->kind] != 0) special_filter(set, note_unmarked, unmarked);
  lock_release(special_lock(span));
}

void special_visit_unmarked_running(enum special_kind kind, special_object_fn *visit, void *argument) {
  size_t count = count_sets();
  for (size_t i = 0; i < count; i++) {
    struct unmarked unmarked = {.kind = (uint8_t)kind};
    do {
      find_unmarked(span_at(i), &unmarked);
      for (size_t k = 0; k < unmarked.count; k++) visit(unmarked.objects[k], argument);
      if (unmarked.count != 0) unmarked.after = unmarked.objects[unmarked.count - 1];
    } while (unmarked.count == UNMARKED_STEP);
  }
}

/* From the end: the set that takes the place of one that goes, here or by the program meanwhile, is the last, which was
 * looked at. */
void special_thaw(void) {
  set_frozen(false);
  for (size_t i = count_sets(); i-- > 0;) {
    struct span *span = span_at(i);
    if (span == NULL) continue;
    lock_acquire(special_lock(span));
    struct special_set *set = span->specials;
    if (set != NULL) {
      set->death = DEATH_UNKNOWN;
      if (count_records(set) == 0) drop_set(span);
    }
    lock_release(special_lock(span));
  }
}

static void verify_ring(const struct special *record) {
  const struct special_many *first = (const struct special_many *)record;
  const struct special_many *alike = first;
  do {
    CHECK(alike->special.object == record->object && alike->special.kind == record->kind &&
              alike->next_alike->previous_alike == alike,
          "verify: the ring of special %p of object %p is broken", (const void *)record, (void *)record->object);
    alike = alike->next_alike;
  } while (alike != first);
}

static void verify_set(struct special_set *set) {
  uint16_t counts[SPECIAL_KINDS] = {0};
  const struct special *before = NULL;
  for (size_t i = 0; i < bucket_count(set->span, set->bucket_shift); i++) {
    for (const struct special *record = set->buckets[i]; record != NULL; record = record->next) {
      bool in_order = before == NULL || before->object < record->object ||
                      (before->object == record->object && before->kind < record->kind);
      CHECK(in_order && bucket_of(set, record->object) == &set->buckets[i],
            "verify: special %p of object %p is out of order", (const void *)record, (void *)record->object);
      CHECK(mark_bit_get(&heap_arena, alloc_side(), record->object), "verify: object %p is dead and has specials",
            (void *)record->object);
      if (is_many(record->kind)) verify_ring(record);
      counts[record->kind]++;
      before = record;
    }
  }
  CHECK(memcmp(counts, set->counts, sizeof counts) == 0 && count_records(set) != 0,
        "verify: the specials of span %p are miscounted", (void *)set->span->start);
}

void special_verify_stw(void) {
  for (size_t i = 0; i < registry.count; i++) {
    struct special_set *set = registry.sets[i];
    CHECK(set->place == i && set->span->specials == set && span_state(set->span) == SPAN_IN_USE &&
              set->span->has_specials,
          "verify: the specials of span %p are not its own", (void *)set->span->start);
    verify_set(set);
  }
}

/* ---- watching ---- */

int special_watch(uintptr_t object, special_died_fn *died, void *argument) {
  struct span *span = object_span(object);
  struct watch *watch = special_alloc(false);
  if (watch == NULL) return -ENOMEM;
  *watch = (struct watch){.special = {.object = object, .kind = SPECIAL_WATCH}, .died = died, .argument = argument};
  lock_acquire(special_lock(span));
  int error = special_add_locked(span, &watch->special);
  lock_release(special_lock(span));
  if (error != 0) special_free(&watch->special);
  return error;
}

void special_watch_fire(struct special *record, uintptr_t object) {
  struct watch *watch = (struct watch *)record;
  watch->died(object, watch->argument);
  special_free(record);
}

void special_watch_object_freed(uintptr_t object) {
  struct span *span = object_span(object);
  lock_acquire(special_lock(span));
  struct special *record = special_find_locked(span, object, SPECIAL_WATCH);
  if (record != NULL) special_remove_locked(span, record);
  lock_release(special_lock(span));
  if (record != NULL) special_watch_fire(record, object);
}
