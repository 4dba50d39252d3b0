/* Specials: what the collector remembers of single objects beside their bits: finalizers, weak links and the words that
 * lie in an object, weak references, ephemerons, cleanups, sampled allocations.
 *
 * A special is a record outside the heap.  The records of a span's objects form its set, `span->specials`, which exists
 * while it has one.  A set is an ordered list, by object and then by kind, cut into buckets: bucket i has the objects of the
 * i-th part of the span.  Parts get smaller as records get more, down to a slot each, so that finding an object's records
 * costs the same however many there are, and walking the buckets is walking the list.  Kinds of which an object may have
 * many keep the first record in the list and the others in a ring behind it.
 *
 *     order       bucket after bucket, objects ascend; the records of one object are ascending in kind, one of each kind
 *     counts      counts[kind] is the number of records of that kind in the list (not in rings); all 0: there is no set
 *     registry    every set stands in `sets` once, at its `place`: whoever settles the dead visits nothing else
 *
 * Locks.  A set and what is in it is changed under its span's stripe (special_lock, LOCK_RANK_SPECIALS), one stripe at a
 * time, in critical sections; or by the collector while the world is stopped, different sets by different markers.  The
 * registry has a lock of its own below the stripes.  Nothing is read without a lock, but for span->specials and
 * special_totals, whose readers only ask whether there is anything at all.
 *
 * A record goes when its object does: by midden_free, or at the end of a mark phase (gc/settle.h).  So a span that is
 * swept or freed has no special of a dead object, and sweeping need not know of them.
 *
 * While the program runs beside a cycle, the collector visits each set under its stripe, and the registry is frozen: no set
 * leaves its place, an empty one stays.  An argument of a record that is added meanwhile is told to the barrier. */
#ifndef MIDDEN_GC_SPECIAL_H
#define MIDDEN_GC_SPECIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/lock.h"
#include "page/span.h"

/* In the order in which an object's records stand in the list. */
enum special_kind {
  SPECIAL_FINALIZER,   /* gc/finalizer.h: at most one */
  SPECIAL_QUEUED,      /* finalizers that are ready; many, since an object can be registered again before they ran */
  SPECIAL_WEAK,        /* gc/cell.h: the weak references to the object; one record for all */
  SPECIAL_EPHEMERON,   /* gc/cell.h: the ephemerons whose key it is; one record for all */
  SPECIAL_LINK_BEFORE, /* gc/weak.h: a weak link to the object; many */
  SPECIAL_LINK_AFTER,
  SPECIAL_HOLDER,  /* gc/weak.h: the weak links that lie in the object; one record for all */
  SPECIAL_CLEANUP, /* gc/cleanup.h: many */
  SPECIAL_WATCH,   /* special_watch: at most one */
  SPECIAL_KINDS
};

struct special {
  struct special *next; /* in the list, or in a list of dead records */
  uintptr_t object;     /* its first byte; 0: in no set */
  uint8_t kind;         /* enum special_kind */
  uint8_t order;        /* finalizers: enum midden_finalizer_order */
  bool refers;          /* finalizers, cleanups: the argument may be an object */
  bool taken;           /* SPECIAL_QUEUED: see gc/calls.h */
  bool named;           /* finalizers, cleanups: that it can never run was reported */
  bool in_holder;       /* weak links; see gc/weak.h */
  bool target_died, holder_died;
};

/* Kinds of which an object may have many.  A ring of one when alone. */
struct special_many {
  struct special special;
  struct special_many *next_alike, *previous_alike;
};

struct special_set {
  struct span *span;
  struct special_set *next; /* in a list of sets to be freed */
  size_t place;             /* in the registry */
  uint16_t counts[SPECIAL_KINDS];
  uint8_t bucket_shift; /* log2 of the bytes of one part of the span */
  uint8_t size;         /* which of the sizes of sets this is */
  bool refers;          /* a record of it has, or had, `refers` */
  uint8_t death;        /* the collector's, from pass to pass: enum special_death */
  uint32_t marking;     /* the last one beside the program that left nothing in it to be marked; 0: there is news */
  struct special *buckets[];
};

/* Whether an object of a set was found unmarked. */
enum special_death { DEATH_UNKNOWN, DEATH_NONE, DEATH_SOME };

/* Records in lists, by kind; atomic. */
extern size_t special_totals[SPECIAL_KINDS];

void special_init(void);

/* Blocks for records, of 32 bytes (is_small) or 64; not cleared.  NULL where there is no memory. */
void *special_alloc(bool is_small);

/* Frees a record of any kind, which is in no set. */
void special_free(struct special *record);

/* The stripe of a span. */
struct lock *special_lock(const struct span *span);

/* All four with the stripe held.  `record` has its object and kind; -EEXIST where the object has one of that kind and may
 * not have two, -ENOMEM; in both cases nothing is changed. */
int special_add_locked(struct span *span, struct special *record);
struct special *special_find_locked(const struct span *span, uintptr_t object, enum special_kind kind);
void special_remove_locked(struct span *span, struct special *record);

/* A record of the set was given an argument that may be an object, which is news. */
void special_note_referring_locked(struct special_set *set);

/* ---- the world stopped ---- */

/* Each set is visited once by one marker.  `visit` may change its set by special_filter alone. */
typedef void special_visit_fn(struct special_set *set, void *argument, unsigned marker);
void special_restart(void); /* before: all sets are to be visited */
void special_visit_share_stw(special_visit_fn *visit, void *argument, unsigned marker); /* until none is left */
size_t special_set_count_stw(void);

/* Drops the sets in which nothing is left. */
void special_drop_empty_sets_stw(void);

/* Checks the invariants above, and that every object lives. */
void special_verify_stw(void);

/* ---- the world running, the collector lock held ---- */

/* While frozen no set leaves the registry or changes its place; thawing drops those in which nothing is left. */
void special_freeze(void);
void special_thaw(void);

/* Visits each set that was there at the call, its stripe held, by the calling thread.  Frozen. */
void special_visit_running(special_visit_fn *visit, void *argument);

/* The same in steps, of `most` sets: `place` is where the next one begins, 0 at first.  False when none is left. */
bool special_visit_some_running(size_t *place, size_t most, special_visit_fn *visit, void *argument);

/* Calls `visit`, which may take the stripe, by the calling thread, for each object with a record of a kind that is unmarked when its
 * set is looked at; sets in which no record has `refers` are passed over.  Frozen. */
typedef void special_object_fn(uintptr_t object, void *argument);
void special_visit_unmarked_running(enum special_kind kind, special_object_fn *visit, void *argument);

/* ---- either: the world stopped, or the stripe held ---- */

/* Calls `keep` for each record in the list of a set, in order, with whether its object is marked; takes out those for
 * which it returns false.  What becomes of them, and of the ring behind them, is for `keep` to decide: it may set their
 * `next`. */
typedef bool special_keep_fn(struct special *record, bool marked, void *argument);
void special_filter(struct special_set *set, special_keep_fn *keep, void *argument);

/* Moves a record that is first of its object, and alone of its kind, to the next kind. */
void special_set_kind(struct special *record, enum special_kind kind);

/* ---- watching ---- */

/* Calls `died(object, argument)` after the object was freed or found dead; its memory may be in use again by then.  In a
 * critical section, with no lock held: `died` may take locks from LOCK_RANK_CALLS on.  Critical sections.  0, -EEXIST or
 * -ENOMEM. */
typedef void special_died_fn(uintptr_t object, void *argument);
int special_watch(uintptr_t object, special_died_fn *died, void *argument);

/* An object is freed by the program. */
void special_watch_object_freed(uintptr_t object);

/* Calls `died` of a SPECIAL_WATCH record, which is in no set, and frees it. */
void special_watch_fire(struct special *record, uintptr_t object);

#endif
