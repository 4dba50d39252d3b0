/* The scavenger: which free memory goes back to the system, and when.
 *
 * Two rules say what goes.
 *
 * The goal.  What the program will need until the next cycle is kept, and a tenth more: the pages that the heap will take
 * when it reaches the pacer's goal, as full as they were when the last cycle began; at least the pages in use and an
 * eighth of what may still be allocated, for objects of other sizes than those that the free slots fit.  Resident pages
 * beyond it go.  A heap that breathes shall not thrash: what an earlier cycle needed stays for SCAVENGER_HOLD_NS, unless
 * the program is idle, and what became free within SCAVENGER_GRACE_NS is left alone.
 *
 * The time.  What has been free and unused for `after_ns` goes, whatever the goal says.
 *
 * Which pages go first, and which never, is pageheap_scavenge's: wholly free huge pages, then the oldest; no dense huge
 * page is broken.  (The memory limit and midden_release_memory release in another way, pageheap_release, that does not
 * care.)
 *
 * Pace.  After each slice, of one chunk, it rests SCAVENGER_REST times as long as the slice took of the processor, so that
 * it costs about 1% of one.
 *
 * It runs in the background thread (scavenger_task) and nowhere else; the collector tells it by three atomic words what
 * a cycle has found.  Clocks and page heap are parameters, so that tests run on fake ones. */
#ifndef MIDDEN_GC_SCAVENGER_H
#define MIDDEN_GC_SCAVENGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mutator/mutator.h"
#include "page/pageheap.h"

#define SCAVENGER_GRACE_NS ((uint64_t)500 * 1000 * 1000)
#define SCAVENGER_HOLD_NS ((uint64_t)5 * 1000 * 1000 * 1000)
#define SCAVENGER_SOON_NS (2 * SCAVENGER_HOLD_NS)
#define SCAVENGER_REFUSED_NS ((uint64_t)10 * 1000 * 1000 * 1000) /* rest after the system refused */
enum { SCAVENGER_REST = 99 };

/* One episode: from the first page released to the moment when nothing is left to do. */
struct scavenger_report {
  uint64_t number;
  uint64_t start_ns, elapsed_ns, cpu_ns;
  size_t released_bytes;
  size_t old_bytes;                                               /* the part of it that went for its age */
  size_t huge_pages;                                              /* wholly free huge pages among it */
  size_t resident_before_bytes, resident_after_bytes, goal_bytes; /* pages in use, stacks and idle ones */
  bool refused;                                                   /* the system refused to take memory */
};

struct scavenger {
  struct pageheap *heap;
  uint64_t (*cpu_ns)(void);                              /* of the calling thread */
  void (*report)(const struct scavenger_report *report); /* after an episode; NULL for none */
  uint64_t after_ns;                                     /* UINT64_MAX: age alone sends nothing away */

  /* Written by the collector. */
  size_t need_bytes; /* atomic; pages with objects that the last cycle's goal needs; SIZE_MAX before the first */
  size_t peak_bytes; /* atomic; the largest since the scavenger looked */
  bool is_idle;      /* atomic; the last cycle ran because the program is idle */

  bool is_attentive; /* atomic; the scavenger will look again soon, poked or not */
  bool is_resting;   /* atomic; it will not look again, unless poked: nothing that is free will ever be old enough */

  /* The scavenger's own. */
  size_t held_bytes; /* need of an earlier cycle that still counts */
  uint64_t held_until_ns;
  uint64_t rest_until_ns;
  uint64_t old_pass_ns; /* when the last pass over the chunks for their age began */
  uint64_t old_due_ns;  /* when the next one is due; UINT64_MAX: when something became free */
  uint64_t old_next_ns; /* in a pass: the earliest time of what is too young */
  size_t old_chunk;     /* in a pass: where it stands; SIZE_MAX: no pass */
  bool in_episode;
  struct scavenger_report episode;
  uint64_t episodes;       /* ever */
  uint64_t released_bytes; /* in all of them */
  size_t goal_bytes;       /* as of the last step; SIZE_MAX before the first cycle */
};

/* The heap's. */
extern struct scavenger heap_scavenger;

void scavenger_init(struct scavenger *scavenger, struct pageheap *heap, uint64_t (*cpu_ns)(void), uint64_t after_ns);

/* After each cycle, under the collector lock: the pages that objects will take at the next goal. */
void scavenger_cycle_ended(struct scavenger *scavenger, size_t need_bytes, bool is_idle);

/* Does one slice where one is due.  `growth_bytes` is what the program may still allocate until the next cycle.  Returns in
 * how many nanoseconds there may be more to do; UINT64_MAX: when a cycle has ended or something became free. */
uint64_t scavenger_step(struct scavenger *scavenger, size_t growth_bytes, uint64_t now_ns);

/* What scavenger_step compares resident memory with. */
size_t scavenger_goal(const struct scavenger *scavenger, const struct pageheap_stats *pages, size_t growth_bytes);

/* Whether the background thread is to be woken, since memory lies beyond the goal and the scavenger will not look soon by
 * itself. */
bool scavenger_wants_background(const struct scavenger *scavenger);

/* After a large object was freed: wakes the scavenger, where it would not look before it is woken.  In no
 * critical section: it may start the background thread. */
void scavenger_notice_free(void);

/* In a fork's child: nobody looks any more. */
void scavenger_forget(struct scavenger *scavenger);

/* For the background thread, on heap_scavenger. */
uint64_t scavenger_task(struct mutator *self, uint64_t now_ns);

#endif
