/* The pace of a concurrent cycle: when it starts so that it ends at the goal, what allocating threads contribute, and
 * how many threads mark.
 *
 * After the pacer of Go 1.18 (M. Knyszek, "GC Pacer Redesign", golang.org/design/44167-gc-pacer-redesign).  While
 * background workers mark with a quarter of the processors, the program allocates.  What it allocated for each byte
 * that they scanned is measured; this ratio, times what there is to scan, is the *runway*: so far below the goal the
 * next cycle starts.  The largest ratio of any quarter of the last few cycles counts, so that bursts find room: too
 * early costs some cycles more, too late costs threads of the program their time.
 *
 * What the forecast misses, *assists* make up for.  An allocating thread owes scan work for each byte.  It pays from
 * the *credit* of the background workers first: what they scanned and nobody has drawn yet.  Only if there is none it
 * marks by itself.  So scanning never falls behind the straight line from here to "all is scanned when the heap
 * reaches the target" by more than the credit, whatever the program does.  The line is drawn again about every
 * millisecond.  The target is the goal; if there turns out to be more to scan than expected, it moves, by less than a
 * tenth of the goal, and everything that was allocated before the cycle is taken for alive and scannable.  A thread
 * that owes and finds nothing grey goes on: then marking is about to end.
 *
 * Scan work is counted in bytes of heap objects that were scanned; stacks and static data do not count.  Objects that are
 * allocated in the cycle are black and never scanned, or, in dirty-page mode, young and mostly dead.  What the cycle has of
 * its own besides, handshakes and roots, is PACER_FIXED_BYTES of scan work by definition: so the ratio stays finite in
 * programs without pointers.
 *
 * Everything here is arithmetic on what the caller measured: no clock, no globals, no atomics, no locks.  One thread
 * uses it at a time.  Credit, and the copy of the assist ratio that allocating threads read, are the caller's. */
#ifndef MIDDEN_GC_PACER_CYCLE_H
#define MIDDEN_GC_PACER_CYCLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PACER_FIXED_BYTES ((size_t)64 << 10)

/* Of the processors, for background marking. */
#define PACER_BACKGROUND_SHARE 0.25

/* The most that a thread owes for a byte that it allocates. */
#define PACER_ASSIST_RATIO_MAX 64.0

enum { PACER_RECENT_CYCLES = 4 };

/* What has happened since pacer_cycle_begin, and the live heap now. */
struct pacer_progress {
  size_t live_bytes;
  size_t background_bytes; /* scanned by workers */
  size_t assist_bytes;     /* scanned by threads that allocated */
  uint64_t assist_ns;      /* processor time of that */
  uint64_t mutator_ns;     /* processor time of the program, without assists */
  size_t withheld_bytes;   /* what workers had scanned in their whole share (struct pacer_share) */
  uint64_t withheld_ns;    /* processor time of that */
  uint64_t rested_ns;      /* for which threads were made to wait (gc/slowing.h) */
};

/* At first all 0. */
struct pacer_cycle {
  /* From cycle to cycle. */
  double recent[PACER_RECENT_CYCLES]; /* the ratio of the last cycles, newest first */
  size_t cycles;                      /* that were measured */
  size_t scanned_bytes;               /* by the last cycle */
  size_t scanned_before_bytes;        /* by the one before */
  /* Of the running cycle. */
  size_t begin_bytes;  /* live heap when it began; no more can there be to scan */
  size_t goal_bytes;   /* as given */
  size_t target_bytes; /* live heap at which all is to be scanned: the goal, or a little beyond */
  size_t scan_bytes;   /* what is taken for the scan work of the cycle */
  double assist_ratio; /* bytes of scan work owed for each byte allocated */
  double ratio;        /* bytes allocated for each byte scanned by workers, in the quarter of the cycle with the most */
  struct pacer_progress quarter; /* where the current quarter began */
};

/* When the goal is set after a cycle that marked so much: the live heap at which the next one starts.  SIZE_MAX if the
 * goal is. */
size_t pacer_cycle_trigger(const struct pacer_cycle *cycle, size_t goal_bytes, size_t marked_bytes);

/* A cycle starts. */
void pacer_cycle_begin(struct pacer_cycle *cycle, size_t live_bytes, size_t goal_bytes);

/* The credit with which a cycle starts, so that threads do not assist only because workers wake up later than they; and
 * what is kept of it, at most, when the line is drawn again: the new line knows what was scanned. */
size_t pacer_cycle_credit_most(const struct pacer_cycle *cycle);

/* About every millisecond while it marks, and at once when a large object was allocated. */
void pacer_cycle_revise(struct pacer_cycle *cycle, const struct pacer_progress *progress);

/* The bytes of scan work that a thread owes for each byte that it allocates: 0 to PACER_ASSIST_RATIO_MAX. */
double pacer_cycle_assist_ratio(const struct pacer_cycle *cycle);

/* Marking is over.  While who asked for a cycle waits for it, a program is slower than it can be: such a cycle tells of the
 * ratio only where that is larger than those before. */
void pacer_cycle_end(struct pacer_cycle *cycle, const struct pacer_progress *progress, bool was_waited_for);

/* A cycle that stopped the world scanned so much: nothing is learnt of the ratio. */
void pacer_cycle_stopped(struct pacer_cycle *cycle, size_t scanned_bytes);

/* ---- who marks in the background ---- */

/* All workers but the last mark without pause, the last one that part of the time.
 *
 * Where the program fills the processors, a worker takes one from a thread for each of its slices; the thread is delayed for
 * less when it marks as much by itself.  So most of the quarter is *withheld* where threads owe enough to get the marking done,
 * and not so much that most of their time goes there: for throughput a worker's long slices are better.  Nor where more threads
 * pay than there are processors: one that is preempted while it assists keeps others waiting. */
struct pacer_share {
  double idle_cpus;     /* processors that the program leaves idle, as far as they are used */
  double withheld_cpus; /* of the quarter */
  unsigned workers;     /* at least 1 */
  double duty;          /* of the last worker: above 0, at most 1 */
};

/* What was measured since the last call, by the time that passed. */
struct pacer_load {
  double mutator_cpus; /* processor time of the program, assists included */
  double owed_cpus;    /* what it takes to scan what is owed for its allocation */
  unsigned payers;     /* threads that assisted in this cycle or the last */
  bool is_hurried;     /* cycles are to be short: workers keep their quarter */
};

/* Every few milliseconds, from a share of zeros the first time: a quarter of `cpus`, without what is withheld, and what the
 * program leaves idle, as far as `markers` go.  Other programs are not seen: what they use counts as idle. */
void pacer_share_adjust(struct pacer_share *share, unsigned cpus, unsigned markers, struct pacer_load load);

#endif
