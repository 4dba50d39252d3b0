/* The queue of calls that are due: finalizers and cleanups whose time has come, first in, first out.
 *
 * A finalizer that waits here keeps its object alive, and stands among that object's specials as SPECIAL_QUEUED, so that
 * midden_free finds it.  A cleanup has no object any more.  What both were given as argument is a root.
 *
 * Who frees a record.  Whoever takes it from the queue.  midden_free of its object only takes the call out of it
 * (`finalizer` NULL), or finds it taken.  `taken` and that are written under the queue's lock, LOCK_RANK_CALLS, the
 * object's place among the specials under its span's stripe, which comes before. */
#ifndef MIDDEN_GC_CALLS_H
#define MIDDEN_GC_CALLS_H

#include "gc/mark.h"
#include "gc/special.h"
#include "midden/midden.h"

/* A record of SPECIAL_FINALIZER, SPECIAL_QUEUED or SPECIAL_CLEANUP. */
struct call {
  struct special_many many;
  union {
    midden_finalizer_fn *finalizer; /* NULL in the queue: called off */
    midden_cleanup_fn *cleanup;
  };
  void *argument;
  union {
    struct call *next; /* in the queue; finalizers: in a list while the collector settles them */
    uint64_t handle;   /* of a cleanup that waits for its object's end */
  };
};

static inline struct call *call_from(struct special *record) { return (struct call *)record; }

/* By `next`, in order.  All zero: empty. */
struct call_list {
  struct call *first, *last;
  size_t count;
};

static inline void call_list_append(struct call_list *list, struct call *call) {
  call->next = NULL;
  *(list->first != NULL ? &list->last->next : &list->first) = call;
  list->last = call;
  list->count++;
}

/* Moves all that `from` has to the end of `to`. */
static inline void call_list_join(struct call_list *to, struct call_list *from) {
  if (from->first == NULL) return;
  *(to->first != NULL ? &to->last->next : &to->first) = from->first;
  to->last = from->last;
  to->count += from->count;
  *from = (struct call_list){0};
}

/* Whether an argument may be an object, now or later. */
bool calls_may_refer(const void *argument);

/* What is to be called: `finalizer(object, argument)`, or where that is NULL `cleanup(argument)`. */
struct due_call {
  midden_finalizer_fn *finalizer;
  midden_cleanup_fn *cleanup;
  void *object, *argument;
};

/* Takes the next; false if there is none.  Critical sections. */
bool calls_take(struct due_call *due);
size_t calls_count(void); /* atomic */

/* The stripe of its object's span held: calls off a SPECIAL_QUEUED record that was just taken out of the set. */
void calls_cancel_locked(struct call *call);

/* Puts a call at the end.  Critical sections, a stripe may be held; or the world stopped. */
void calls_append(struct call *call);

/* The same for all that a list has. */
void calls_append_all(struct call_list *list);

/* Marks arguments, and the objects of finalizers, of all calls that are in the queue now; how many were ever appended: when that is
 * the same later, these are roots no more than what the program has taken.  One thread at a time. */
uint64_t calls_mark_roots(struct midden_tracer *tracer);
uint64_t calls_appended(void);

#endif
