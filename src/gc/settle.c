#include "gc/settle.h"

#include "base/atomic.h"
#include "base/attr.h"
#include "base/check.h"
#include "gc/calls.h"
#include "gc/cell.h"
#include "gc/cleanup.h"
#include "gc/cycle.h"
#include "gc/finalizer.h"
#include "gc/markers.h"
#include "gc/special.h"
#include "gc/weak.h"
#include "span/kind.h"
#include "span/mark_bits.h"
#include "span/object.h"
#include "span/slots.h"

enum {
  PARALLEL_LEAST_SETS = 32, /* fewer are settled before another marker has woken up */
  FINISH_STEP = 256,        /* records in one critical section */
  LOOKS_FEW = 8192,         /* specials; to find the dead among more takes a stop long: a tenth of a microsecond each */
  LOOKS_MANY = 16 * LOOKS_FEW,
  LINKS_STEP = 16, /* sets that are settled with the links locked */
  NAMES_MAX = 16   /* stuck objects named after one cycle; the others' turn comes with the next */
};

bool settle_names_stuck;
size_t settle_finalizer_cycles, settle_cleanups_stuck;
uintptr_t settle_finalizer_cycle;

/* What one marker found, in lists by `next`. */
struct found {
  struct call_list finalizers; /* of unmarked objects */
  struct special *cleanups;    /* of dead objects: the first of each ring */
  struct special *dead;        /* records of dead objects: likewise */
  struct weak_link *orphans;   /* links that lay in dead objects */
  bool has_links_after;        /* of objects that "clearing" found unmarked */
} CACHE_ALIGNED;

struct stuck {
  uintptr_t object;
  const char *kind, *type;
  bool is_cleanup;
};

static NOT_A_ROOT struct {
  struct settle_markers markers;
  struct found found[MARKERS_MAX];
  struct finalizer_settling finalizers;
  bool has_begun_finalizers;
  size_t next_chunk;            /* atomic; of which dead cells are looked for next */
  size_t unsettled_bytes;       /* marked before them */
  size_t dying_bytes;           /* and for them */
  bool arguments_done;          /* in a cycle that runs beside the program */
  uint64_t queue_marked;        /* calls ever queued when the queue was marked beside the program */
  uint32_t marking;             /* the number of the last marking of specials beside it, in dirty-page mode; not 0 */
  size_t suspects;              /* objects that were marked meanwhile, it seems by their own cleanup's argument */
  uintptr_t unnamed[NAMES_MAX]; /* of them, some that were not named yet */
  size_t unnamed_count;
  size_t finalizer_cycles, cleanups_stuck;
  uintptr_t finalizer_cycle; /* ~ an object of the first */
  struct stuck stuck[NAMES_MAX];
  size_t stuck_count;
} settling;

void settle_init(void) {
  special_init();
  cell_init();
}

/* ---- running passes ---- */

static unsigned markers_for_sets(void) {
  return special_set_count_stw() >= PARALLEL_LEAST_SETS ? settling.markers.count : 1;
}

static void each_set(void (*job)(void *argument, unsigned marker)) {
  special_restart();
  markers_run(markers_for_sets(), job, NULL);
}

static struct midden_tracer *tracer_of(unsigned marker) { return &settling.markers.tracers[marker]; }

static void drain(void) { settling.markers.drain(tracer_of(0)); }

static void push(struct special **list, struct special *record) {
  record->next = *list;
  *list = record;
}

/* ---- roots ---- */

void settle_begin(void) { special_restart(); }

void settle_mark_queue_stw(struct midden_tracer *tracer) { calls_mark_roots(tracer); }

void settle_mark_new_queue_stw(struct midden_tracer *tracer) {
  if (calls_appended() != settling.queue_marked) calls_mark_roots(tracer);
}

static bool mark_finalizer_argument(struct special *record, bool marked, void *argument) {
  (void)marked;
  if (record->kind == SPECIAL_FINALIZER && record->refers)
    mark_address(argument, (uintptr_t)call_from(record)->argument);
  return true;
}

static void mark_finalizer_arguments(struct special_set *set, void *argument, unsigned marker) {
  (void)marker;
  if (set->refers && set->counts[SPECIAL_FINALIZER] != 0) special_filter(set, mark_finalizer_argument, argument);
}

void settle_mark_share_stw(struct midden_tracer *tracer) {
  special_visit_share_stw(mark_finalizer_arguments, tracer, 0);
}

static void mark_new_finalizer_arguments(struct special_set *set, void *argument, unsigned marker) {
  if (set->marking != settling.marking) mark_finalizer_arguments(set, argument, marker);
}

void settle_mark_new_share_stw(struct midden_tracer *tracer) {
  special_visit_share_stw(mark_new_finalizer_arguments, tracer, 0);
}

/* ---- values ---- */

static bool has_values(const struct special_set *set) {
  return set->counts[SPECIAL_EPHEMERON] != 0 || (set->refers && set->counts[SPECIAL_CLEANUP] != 0);
}

static bool mark_value(struct special *record, bool marked, void *argument) {
  if (!marked) return true;
  if (record->kind == SPECIAL_EPHEMERON) cell_mark_values(argument, record);
  if (record->kind == SPECIAL_CLEANUP) cleanup_mark_arguments(argument, record);
  return true;
}

static void mark_values(struct special_set *set, void *argument, unsigned marker) {
  (void)marker;
  if (has_values(set)) special_filter(set, mark_value, argument);
}

static void mark_new_values(struct special_set *set, void *argument, unsigned marker) {
  if (set->marking != settling.marking) mark_values(set, argument, marker);
}

static void values_job(void *visit, unsigned marker) {
  struct midden_tracer *tracer = tracer_of(marker);
  work_join();
  special_visit_share_stw(*(special_visit_fn **)visit, tracer, marker);
  mark_drain(tracer);
}

/* Where the program runs the set may change: who asks takes no look inside. */
bool settle_is_watched(uintptr_t object, bool running) {
  const struct special_set *set = atomic_load_relaxed(&object_span(object)->specials);
  return set != NULL && (running || has_values(set));
}

void settle_mark_consequences(struct midden_tracer *tracer, uintptr_t object) {
  const struct span *span = object_span(object);
  lock_acquire(special_lock(span));
  struct special *record = special_find_locked(span, object, SPECIAL_EPHEMERON);
  if (record != NULL) cell_mark_values(tracer, record);
  record = special_find_locked(span, object, SPECIAL_CLEANUP);
  if (record != NULL) cleanup_mark_arguments(tracer, record);
  lock_release(special_lock(span));
}

static void mark_all_values(const struct settle_markers *markers, special_visit_fn *visit) {
  settling.markers = *markers;
  if (special_set_count_stw() == 0) return;
  if (special_totals[SPECIAL_CLEANUP] == 0 && special_totals[SPECIAL_EPHEMERON] == 0) return;
  mark_watch(true);
  do {
    special_restart();
    work_begin();
    markers_run(settling.markers.count, values_job, &visit);
    drain();
  } while (mark_watch_was_incomplete());
}

void settle_values_stw(const struct settle_markers *markers) { mark_all_values(markers, mark_values); }
void settle_new_values_stw(const struct settle_markers *markers) { mark_all_values(markers, mark_new_values); }

/* ---- arguments ---- */

static void note_stuck(struct special *record, bool is_cleanup) {
  if (!settle_names_stuck || record->named || settling.stuck_count == NAMES_MAX) return;
  record->named = true;
  const struct span *span = object_span(record->object);
  struct stuck *stuck = &settling.stuck[settling.stuck_count++];
  *stuck = (struct stuck){.object = record->object, .kind = kind_table[span->kind].name, .is_cleanup = is_cleanup};
  if (span->kind != MIDDEN_TYPED) return;
  uintptr_t tagged = *(const uintptr_t *)(record->object + span_slot_bytes(span) - sizeof(uintptr_t));
  const struct midden_type *type = (const struct midden_type *)(tagged & ~(uintptr_t)TYPE_ARRAY_TAG);
  if (type != NULL) stuck->type = type->name;
}

static bool mark_dead_argument(struct special *record, bool marked, void *argument) {
  (void)marked; /* as of when the object was met first: it may be marked since */
  (void)argument;
  if (record->kind != SPECIAL_CLEANUP || mark_bit_get(&heap_arena, mark_side(), record->object)) return true;
  cleanup_mark_arguments(tracer_of(0), record);
  drain();
  if (!mark_bit_get(&heap_arena, mark_side(), record->object)) return true;
  settling.cleanups_stuck++;
  note_stuck(record, true);
  return true;
}

static void mark_dead_arguments(struct special_set *set, void *argument, unsigned marker) {
  (void)marker;
  if (!set->refers || set->counts[SPECIAL_CLEANUP] == 0 || slots_all_marked(set->span)) return;
  special_filter(set, mark_dead_argument, argument);
}

static void settle_arguments(void) {
  do {
    special_restart();
    special_visit_share_stw(mark_dead_arguments, NULL, 0);
  } while (mark_watch_was_incomplete());
}

/* ---- clearing ---- */

struct clearing {
  struct found *found;
  struct special_set *set;
};

static bool clear_unreachable(struct special *record, bool marked, void *argument) {
  struct clearing *clearing = argument;
  struct found *found = clearing->found;
  if (marked) return true;
  clearing->set->death = DEATH_SOME;
  switch (record->kind) {
    case SPECIAL_WEAK:
    case SPECIAL_EPHEMERON:
      cell_target_died(record);
      break;
    case SPECIAL_LINK_BEFORE:
      weak_target_died(record);
      break;
    case SPECIAL_FINALIZER:
      call_list_append(&found->finalizers, call_from(record));
      return true;
    case SPECIAL_LINK_AFTER:
      found->has_links_after = true;
      return true;
    default:
      return true;
  }
  push(&found->dead, record);
  return false;
}

static void clear_set(struct special_set *set, void *argument, unsigned marker) {
  (void)argument;
  set->death = DEATH_NONE;
  if (slots_all_marked(set->span)) return; /* most spans; their bits are read sooner than their records */
  special_filter(set, clear_unreachable, &(struct clearing){&settling.found[marker], set});
}

/* The program may come to an object of it by what is not marked. */
static bool has_ways(const struct special_set *set) {
  return set->counts[SPECIAL_WEAK] != 0 || set->counts[SPECIAL_EPHEMERON] != 0 ||
         set->counts[SPECIAL_LINK_BEFORE] != 0 || set->counts[SPECIAL_LINK_AFTER] != 0;
}

static void clear_set_with_ways(struct special_set *set, void *argument, unsigned marker) {
  set->death = DEATH_UNKNOWN;
  if (has_ways(set)) clear_set(set, argument, marker);
}

static void clear_unknown_set(struct special_set *set, void *argument, unsigned marker) {
  if (set->death == DEATH_UNKNOWN) clear_set(set, argument, marker);
}

static void clear_ways_job(void *argument, unsigned marker) {
  special_visit_share_stw(clear_set_with_ways, argument, marker);
}

static void clear_rest_job(void *argument, unsigned marker) {
  special_visit_share_stw(clear_unknown_set, argument, marker);
}

/* ---- finalizers ---- */

static void in_cycle(struct special *record) {
  if (settling.finalizer_cycles++ == 0) settling.finalizer_cycle = ~record->object;
  note_stuck(record, false);
}

static struct call_list take_finalizers(void) {
  struct call_list all = {0};
  for (unsigned i = 0; i < settling.markers.count; i++) call_list_join(&all, &settling.found[i].finalizers);
  return all;
}

static size_t marked_bytes(void) {
  struct tally all = {0};
  for (unsigned i = 0; i < settling.markers.count; i++) tally_add(&all, &tracer_of(i)->marked);
  return tally_bytes(&all);
}

/* How many there are to settle. */
static size_t begin_finalizers(void) {
  settling.has_begun_finalizers = true;
  settling.finalizers =
      (struct finalizer_settling){.tracer = tracer_of(0), .candidates = take_finalizers(), .in_cycle = in_cycle};
  size_t count = settling.finalizers.candidates.count;
  finalizer_settle_begin(&settling.finalizers);
  settling.dying_bytes = 0;
  settling.unsettled_bytes = count == 0 ? 0 : marked_bytes();
  return count;
}

static bool drain_all(struct midden_tracer *tracer) {
  settling.markers.drain(tracer);
  return true;
}

bool settle_finalizers(finalizer_drain_fn *drain_some) {
  bool done = finalizer_settle(&settling.finalizers, drain_some != NULL ? drain_some : drain_all);
  if (done && settling.unsettled_bytes != 0) settling.dying_bytes = marked_bytes() - settling.unsettled_bytes;
  return done;
}

void settle_finalizers_again(void) { finalizer_settle_again(&settling.finalizers); }

size_t settle_dying_bytes(void) { return settling.dying_bytes; }

/* ---- the end ---- */

static bool bury(struct special *record, bool marked, void *argument) {
  struct found *found = argument;
  if (marked) return true;
  if (record->kind == SPECIAL_LINK_AFTER) {
    weak_target_died(record);
  } else if (record->kind == SPECIAL_HOLDER) {
    weak_holder_died(record, &found->orphans);
  } else if (record->kind == SPECIAL_CLEANUP) {
    push(&found->cleanups, record);
    return false;
  } else {
    ASSERT(record->kind == SPECIAL_WATCH);
  }
  push(&found->dead, record);
  return false;
}

static void bury_set(struct special_set *set, void *argument, unsigned marker) {
  (void)argument;
  if (set->death == DEATH_SOME) special_filter(set, bury, &settling.found[marker]);
}

static void bury_job(void *argument, unsigned marker) { special_visit_share_stw(bury_set, argument, marker); }

static bool has_cells(void) {
  return atomic_load_relaxed(&special_totals[SPECIAL_WEAK]) != 0 ||
         atomic_load_relaxed(&special_totals[SPECIAL_EPHEMERON]) != 0;
}

static void bury_cells_job(void *argument, unsigned marker) {
  (void)argument, (void)marker;
  for (size_t chunk; (chunk = atomic_add_relaxed(&settling.next_chunk, (size_t)1)) < arena_chunk_count(&heap_arena);)
    cell_drop_dead_in(chunk);
}

/* Not while sets are visited: one may go with its last record. */
static void bury_cells(unsigned markers) {
  atomic_store_relaxed(&settling.next_chunk, (size_t)0);
  if (has_cells()) markers_run(markers, bury_cells_job, NULL);
}

static void queue_cleanups(void) {
  for (unsigned i = 0; i < settling.markers.count; i++) {
    struct special *first = settling.found[i].cleanups;
    settling.found[i].cleanups = NULL;
    for (struct special *next; first != NULL; first = next) {
      next = first->next;
      cleanup_queue(first);
    }
  }
}

static void begin_dead(const struct settle_markers *markers) {
  settling.markers = *markers;
  settling.finalizer_cycles = 0;
  for (unsigned i = 0; i < markers->count; i++) settling.found[i].has_links_after = false;
  settling.finalizer_cycle = 0;
  settling.has_begun_finalizers = false;
}

static void publish_counts(void) {
  atomic_store_relaxed(&settle_finalizer_cycles, settling.finalizer_cycles);
  atomic_store_relaxed(&settle_finalizer_cycle, settling.finalizer_cycle);
  atomic_store_relaxed(&settle_cleanups_stuck, settling.cleanups_stuck);
}

void settle_clear_stw(const struct settle_markers *markers) {
  begin_dead(markers);
  settling.cleanups_stuck = 0;
  if (special_set_count_stw() == 0) return;
  if (special_totals[SPECIAL_CLEANUP] != 0) settle_arguments();
  mark_watch(false);
  each_set(clear_ways_job);
}

size_t settle_find_finalizers_stw(void) {
  if (special_set_count_stw() != 0) each_set(clear_rest_job);
  return begin_finalizers();
}

static size_t count_looks(void) {
  return atomic_load_relaxed(&special_totals[SPECIAL_FINALIZER]) +
         atomic_load_relaxed(&special_totals[SPECIAL_CLEANUP]) + atomic_load_relaxed(&special_totals[SPECIAL_HOLDER]) +
         atomic_load_relaxed(&special_totals[SPECIAL_WATCH]);
}

bool settle_takes_long(void) { return count_looks() > LOOKS_FEW; }

bool settle_takes_very_long(void) { return count_looks() > LOOKS_MANY; }

void settle_end_stw(void) {
  if (special_set_count_stw() != 0) {
    bury_cells(markers_for_sets());
    each_set(bury_job);
    queue_cleanups();
    special_drop_empty_sets_stw();
  }
  publish_counts();
}

void settle_dead_stw(const struct settle_markers *markers) {
  settle_clear_stw(markers);
  settle_find_finalizers_stw();
  settle_finalizers(NULL);
  settle_end_stw();
}

/* ---- while the world runs ----
 *
 * One thread does it, each set under its stripe, and the links locked where links are settled. */

void settle_mark_roots_running(struct midden_tracer *tracer) {
  settling.arguments_done = false;
  calls_mark_roots(tracer);
  special_freeze();
  special_visit_running(mark_finalizer_arguments, tracer);
}

bool settle_may_have_values(void) {
  return atomic_load_relaxed(&special_totals[SPECIAL_EPHEMERON]) != 0 ||
         atomic_load_relaxed(&special_totals[SPECIAL_CLEANUP]) != 0;
}

/* With all that follows from it; false if there was no memory for that. */
static bool mark_watched(struct midden_tracer *tracer, void (*mark)(struct midden_tracer *tracer)) {
  mark_watch(true);
  mark(tracer);
  cycle_drain_alone(tracer);
  mark_watch(false);
  return !mark_watch_was_incomplete();
}

static void mark_values_running(struct midden_tracer *tracer) { special_visit_running(mark_values, tracer); }

uint64_t settle_grey_values_running(struct midden_tracer *tracer) {
  uint64_t before = mark_count(tracer);
  if (settle_may_have_values()) mark_values_running(tracer);
  mark_publish(tracer);
  return mark_count(tracer) - before;
}

bool settle_mark_values_running(struct midden_tracer *tracer) {
  return !settle_may_have_values() || mark_watched(tracer, mark_values_running);
}

size_t settle_referring(void) {
  return atomic_load_relaxed(&special_totals[SPECIAL_FINALIZER]) +
         atomic_load_relaxed(&special_totals[SPECIAL_CLEANUP]) +
         atomic_load_relaxed(&special_totals[SPECIAL_EPHEMERON]);
}

static void mark_finalizer_arguments_ahead(struct special_set *set, void *argument, unsigned marker) {
  mark_finalizer_arguments(set, argument, marker);
  set->marking = settling.marking;
}

struct values_ahead {
  struct midden_tracer *tracer;
  bool all; /* that the set will have, unless it is given more */
};

static bool mark_value_ahead(struct special *record, bool marked, void *argument) {
  struct values_ahead *ahead = argument;
  bool has_value = record->kind == SPECIAL_CLEANUP || record->kind == SPECIAL_EPHEMERON;
  ahead->all = ahead->all && (marked || !has_value);
  return mark_value(record, marked, ahead->tracer);
}

/* Of ephemerons whose keys are marked, what comes later is found when they are scanned: gc/cell.h. */
static void mark_values_ahead(struct special_set *set, void *argument, unsigned marker) {
  (void)marker;
  if (!has_values(set)) return;
  struct values_ahead ahead = {.tracer = argument, .all = true};
  special_filter(set, mark_value_ahead, &ahead);
  if (!ahead.all) set->marking = 0;
}

static void mark_referring(struct midden_tracer *tracer) {
  special_freeze();
  special_visit_running(mark_finalizer_arguments_ahead, tracer);
  special_visit_running(mark_values_ahead, tracer);
  special_thaw();
}

uint64_t settle_grey_ahead_running(struct midden_tracer *tracer) {
  uint64_t before = mark_count(tracer);
  if (++settling.marking == 0) settling.marking = 1;
  settling.queue_marked = calls_mark_roots(tracer);
  if (settle_referring() != 0) mark_referring(tracer);
  mark_publish(tracer);
  return mark_count(tracer) - before;
}

/* The first cleanup of an object, its stripe held; or NULL: the program may have taken it off. */
static struct special *lock_cleanup(uintptr_t object) {
  const struct span *span = object_span(object);
  lock_acquire(special_lock(span));
  return special_find_locked(span, object, SPECIAL_CLEANUP);
}

static void unlock_cleanup(uintptr_t object) { lock_release(special_lock(object_span(object))); }

static void note_suspect(uintptr_t object) {
  settling.suspects++;
  const struct special *record = lock_cleanup(object);
  bool wanted = settle_names_stuck && record != NULL && !record->named;
  unlock_cleanup(object);
  if (wanted && settling.unnamed_count < NAMES_MAX) settling.unnamed[settling.unnamed_count++] = object;
}

static void mark_argument_running(uintptr_t object, void *tracer) {
  bool was_marked = mark_bit_get(&heap_arena, mark_side(), object);
  struct special *record = lock_cleanup(object);
  if (record != NULL) cleanup_mark_arguments(tracer, record);
  unlock_cleanup(object);
  cycle_drain_alone(tracer);
  if (!was_marked && mark_bit_get(&heap_arena, mark_side(), object)) note_suspect(object);
}

static void mark_arguments_running(struct midden_tracer *tracer) {
  special_visit_unmarked_running(SPECIAL_CLEANUP, mark_argument_running, tracer);
}

/* Once is enough: arguments of cleanups that are added later are told to the barrier. */
bool settle_mark_arguments_running(struct midden_tracer *tracer) {
  settling.suspects = settling.unnamed_count = 0;
  if (settling.arguments_done) return false;
  settling.arguments_done = true;
  uint64_t before = mark_count(tracer);
  bool has_cleanups = atomic_load_relaxed(&special_totals[SPECIAL_CLEANUP]) != 0;
  bool complete = !has_cleanups || mark_watched(tracer, mark_arguments_running);
  if (settling.suspects == 0) settling.cleanups_stuck = 0;
  return !complete || mark_count(tracer) != before;
}

bool settle_has_suspects_running(void) { return settling.suspects != 0; }

void settle_count_stuck_running(void) {
  settling.cleanups_stuck = settling.suspects;
  for (size_t i = 0; i < settling.unnamed_count; i++) {
    struct special *record = lock_cleanup(settling.unnamed[i]);
    if (record != NULL) note_stuck(record, true);
    unlock_cleanup(settling.unnamed[i]);
  }
}

/* A thread that wants the links locked waits for a step. */
static void visit_links_locked(special_visit_fn *visit) {
  size_t place = 0;
  weak_lock_links();
  while (special_visit_some_running(&place, LINKS_STEP, visit, NULL)) weak_pass_links();
  weak_unlock_links();
}

bool settle_may_leave_stop(void) {
  bool has_links = false;
  for (unsigned i = 0; i < settling.markers.count; i++) has_links = has_links || settling.found[i].has_links_after;
  return !has_links;
}

void settle_leave_stop(void) { special_freeze(); }

void settle_find_finalizers_running(void) {
  if (settling.has_begun_finalizers) return;
  special_visit_running(clear_unknown_set, NULL);
  begin_finalizers();
}

void settle_end_running(void) {
  bury_cells(1);
  visit_links_locked(bury_set);
  queue_cleanups();
  special_thaw();
  publish_counts();
}

void settle_dead_running(const struct settle_markers *markers) {
  begin_dead(markers);
  visit_links_locked(clear_set);
  begin_finalizers();
  settle_finalizers(NULL);
  settle_end_running();
}

/* ---- afterwards ---- */

static void name_stuck(void) {
  for (size_t i = 0; i < settling.stuck_count; i++) {
    const struct stuck *stuck = &settling.stuck[i];
    warn("%s of object %p (kind %s%s%s) can never run: %s", stuck->is_cleanup ? "a cleanup" : "the finalizer",
         (void *)stuck->object, stuck->kind, stuck->type != NULL ? ", type " : "",
         stuck->type != NULL ? stuck->type : "",
         stuck->is_cleanup ? "its argument refers to the object" : "the object is part of a cycle");
  }
  settling.stuck_count = 0;
}

static void free_dead(struct special *record) {
  if (record->kind == SPECIAL_LINK_BEFORE || record->kind == SPECIAL_LINK_AFTER) {
    weak_forget_died_target(record);
  } else if (record->kind == SPECIAL_WATCH) {
    special_watch_fire(record, record->object);
  } else {
    special_free(record);
  }
}

static void finish_step(struct found *found) {
  if (found->orphans != NULL) {
    weak_forget_died_holders(&found->orphans, FINISH_STEP);
    return;
  }
  for (int i = 0; i < FINISH_STEP && found->dead != NULL; i++) {
    struct special *record = found->dead;
    found->dead = record->next;
    free_dead(record);
  }
}

/* All orphans first: of links that are in both kinds of lists, it is the other one that frees them. */
void settle_finish(struct mutator *self) {
  name_stuck();
  for (int pass = 0; pass < 2; pass++) {
    for (unsigned i = 0; i < MARKERS_MAX; i++) {
      struct found *found = &settling.found[i];
      while (found->orphans != NULL || (pass == 1 && found->dead != NULL)) {
        mutator_enter(self);
        finish_step(found);
        mutator_leave(self);
      }
    }
  }
}

void settle_object_freed(uintptr_t object) {
  if (atomic_load_relaxed(&object_span(object)->specials) == NULL) return;
  finalizer_object_freed(object);
  cell_object_freed(object);
  cleanup_object_freed(object);
  weak_object_freed(object);
  special_watch_object_freed(object);
}
