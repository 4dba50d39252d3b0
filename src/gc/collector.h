/* The collector: one cycle at a time, through these phases (cycle_set_phase checks the steps):
 *
 *     OFF               no cycle; sweeping goes on lazily         -> SWEEP_TERMINATION
 *     SWEEP_TERMINATION what is unswept is swept, the world runs  -> MARK; ARM; OFF (given up)
 *     ARM               beside the program only: from here on     -> SCAN; OFF (given up)
 *                       stores are told of, or pages watched
 *     SCAN              beside the program only: each thread      -> MARK
 *                       marks what its stack holds
 *     MARK              roots and the heap are marked             -> MARK_TERMINATION; OFF (given up)
 *     MARK_TERMINATION  weak links, finalizers, the new goal      -> OFF
 *
 * A cycle of the stopped kind (stopped.c) has the world stopped from the step to MARK until after the step to OFF.  One beside
 * the program (concurrent.c, dirty.c) makes its steps with the gate of critical sections closed, or in the stop at its end.  The
 * phase is written under the collector lock.
 *
 * The lock.  LOCK_RANK_COLLECTOR is held from before the first step to after the last one, across the stop; whoever
 * waits for it is SAFE.  Lock order: collector, threads, then anything in critical sections.
 *
 * What the collector may not do while the world is stopped: allocate from the C library, take its locks, print. */
#ifndef MIDDEN_GC_COLLECTOR_H
#define MIDDEN_GC_COLLECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gc/pacer.h"
#include "gc/sweep.h"
#include "midden/midden.h"
#include "mutator/mutator.h"

enum collector_phase {
  COLLECTOR_OFF,
  COLLECTOR_SWEEP_TERMINATION,
  COLLECTOR_ARM,
  COLLECTOR_SCAN,
  COLLECTOR_MARK,
  COLLECTOR_MARK_TERMINATION
};

enum collector_reason {
  COLLECT_HEAP,
  COLLECT_FORCED,
  COLLECT_OUT_OF_MEMORY,
  COLLECT_STRESS,
  COLLECT_IDLE,
  COLLECT_REASONS
};

/* When a marker worked, both since the library started; and the processor time it took. */
struct marker_report {
  uint32_t thread; /* the kernel's name of it */
  uint64_t start_ns, end_ns, cpu_ns;
};

const char *collector_reason_name(enum collector_reason reason);

/* What one cycle did; handed to the reporter and kept as the last. */
struct collector_report {
  uint64_t number;
  enum collector_reason reason;
  unsigned markers; /* that it marks with, at most */
  /* When it began and ended, and its steps began; all since the library started. */
  uint64_t start_ns, sweep_start_ns, stop_start_ns, roots_start_ns, finish_start_ns, resume_ns, end_ns;
  uint64_t pause_start_ns, ahead_start_ns; /* likewise; where there was such a stop */
  /* Parts of the pause, and all of it.  Cycles beside the program: of the mark phase (stop_ns: ARM and SCAN); the pause is the
   * stop at its end, and none in barrier mode. */
  uint64_t stop_ns, roots_ns, mark_ns, finish_ns, pause_ns;
  uint64_t check_ns;                        /* in collector_checker; part of finish_ns */
  uint64_t sweep_before_ns, sweep_after_ns; /* around the stop, in the collecting thread */
  uint64_t cpu_ns;                          /* of all markers */
  struct sweep_stats swept;                 /* since the last cycle's mark phase */
  uint64_t limit_yields;                    /* times the limiter put this cycle off */
  uint64_t live_before_ns; /* the time of the next figure: when the cycle began, or its stop where that comes last */
  size_t live_before_bytes, marked_bytes, marked_scanned_bytes, marked_objects, goal_bytes;
  /* Cycles beside the program. */
  uint64_t gate_ns;      /* the longest time that the gate was closed */
  unsigned rounds;       /* until the marking was done */
  size_t assisted_bytes; /* of the scanning, by threads that allocate; and the time that took them */
  uint64_t assist_ns;
  /* Of these, dirty-page mode alone. */
  size_t joined;                      /* huge pages that had been split */
  size_t written_bytes;               /* as the stop found them */
  size_t rests;                       /* how often threads were made to rest (slowing.h) */
  uint64_t ahead_ns;                  /* the stop that called trace functions ahead of the last one; 0: none */
  uint64_t left_ns;                   /* what only finalizers reach was marked for so long after the stop; 0: in it */
  bool concurrent;                    /* it marks beside the program */
  bool minor;                         /* what was old was taken for alive; see gc/generation.h */
  size_t threads, signalled;          /* attached when the world stopped; of those, how many a signal had to stop */
  size_t finalizers_ready;            /* waiting to run, those of earlier cycles included */
  const struct marker_report *marker; /* `markers` of them; valid while the report is made */
};

/* Pauses by length: the bucket i counts those from collector_pause_limit_ns(i) on and below that of i + 1. */
enum { COLLECTOR_PAUSE_BUCKETS = 64 };
uint64_t collector_pause_limit_ns(unsigned bucket);

/* Written with the world stopped, at the end of a cycle: who holds the lock of the list of mutators reads figures that
 * fit each other.  Each is atomic to read without it. */
struct collector_totals {
  uint64_t collections, pause_total_ns, pause_max_ns, pause_last_ns;
  uint64_t by_reason[COLLECT_REASONS];
  uint64_t pauses[COLLECTOR_PAUSE_BUCKETS];
  size_t marked_bytes, marked_objects, goal_bytes;
  size_t lived_bytes; /* of what the last full cycle has marked: what cannot have been allocated after it began */
  uint64_t minor_collections;
  uint64_t limit_yields;   /* collections that the limiter put off */
  uint64_t limit_level_ns; /* what is in its bucket */
  size_t stack_bytes;      /* of stacks, read by the last cycle */
};

struct collector_hooks {
  midden_event_fn *event; /* all atomic */
  void *event_argument;
  midden_root_fn *roots;
  void *roots_argument;
  midden_notify_fn *finalizers_ready;
  void *finalizers_argument;
};

extern struct collector_hooks collector_hooks;

/* A function and its argument belong together: who changes them does so in a critical section, with these locked, and who calls
 * one copies both.  Any thread that is attached, in no critical section. */
void collector_lock_hooks(struct mutator *self);
void collector_unlock_hooks(struct mutator *self);
struct collector_hooks collector_read_hooks(void);

extern struct lock collector_lock;

/* Called after each cycle with the world running, by several threads at once if their cycles end shortly after each other;
 * set at start. */
extern void (*collector_reporter)(const struct collector_report *report);

/* Called at the end of each cycle with the world stopped; NULL for none.  Set at start. */
extern void (*collector_verifier)(void);

/* Called with the world stopped when all is marked that is reachable, before anything follows from what is not; NULL for
 * none.  Set at start. */
extern void (*collector_checker)(bool minor);

/* BARRIER and DIRTY: cycles mark beside the program, where the system has a thread for that. */
void collector_init(const struct pacer *pacer, unsigned markers, enum midden_mode mode,
                    enum midden_generations generations, uint64_t brief_stop_ns);

uint64_t collector_start_ns(void); /* when the library started */

/* As it is now; any thread. */
enum midden_mode collector_mode(void);

enum collector_phase collector_phase(void); /* atomic */

/* Runs a cycle, unless collections are disabled, or (reason COLLECT_HEAP) one is no longer due when the lock is had.  Outside
 * critical sections.  False if `stop` ended it early. */
bool collector_collect(enum collector_reason reason, bool (*stop)(void *argument), void *argument);

/* The same for COLLECT_IDLE, by the background thread, which does not wait where the driver runs it: false then, and
 * driver_has_served tells whether it is over. */
bool collector_collect_idle(uint32_t *request);

/* How many cycles there were; any thread. */
uint64_t collector_count(void);

/* What lived when the last full cycle began, as far as that tells, and what has been allocated since it began; they fit each other in a
 * critical section. */
size_t collector_lived_bytes(void);
size_t collector_new_bytes(void);

/* Where a cycle is under way in the driver: waits until it is over, and gives true.  Outside critical sections. */
bool collector_await_end(struct mutator *self);

/* When the last cycle ended; now, if there is one under way.  0: there was none. */
uint64_t collector_worked_until_ns(uint64_t now_ns);

/* The driver's: a cycle beside the program, unless it is not called for.  Outside critical sections. */
void collector_run_concurrently(struct mutator *self, enum collector_reason reason);

/* The memory limit is passed, or is about to be: makes a cycle due at once if enough was allocated since the last.
 * Anywhere. */
void collector_press(void);

/* Before an object of `bytes` is allocated that may pass the memory limit by itself: the same. */
void collector_press_for(struct mutator *self, size_t bytes);

/* Metadata has grown: the same where all that is held passes the limit.  In a critical section, with locks up to those of specials. */
void collector_press_for_metadata(void);

/* Holds the lock, and with it off all cycles. */
void collector_acquire(struct mutator *self);
void collector_release(void);

/* Whether this thread holds the lock: it is in a callback, or forking. */
bool collector_is_mine(const struct mutator *self);

/* Stops and resumes the world; between collector_acquire and release.  Stopping returns false where the world's roots could
 * not be learned for lack of memory: it is stopped, but nothing can be marked. */
bool collector_stop_world(struct mutator *self);
void collector_resume_world(void);

/* Calls `function` with the world stopped, be it that this thread has stopped it already.  Outside critical sections. */
void collector_call_stopped(struct mutator *self, void (*function)(void *argument), void *argument);

/* Waits until no cycle is under way that runs beside the program.  False where this thread cannot: it holds the lock, or is in a
 * critical section; or where no cycle ever does. */
bool collector_await(struct mutator *self);

/* Counts of disable less enable; atomic. */
void collector_disable(void);
void collector_enable(void);
bool collector_is_disabled(void);

/* Changes the pacer's figures and its goal at once. */
void collector_configure(void (*change)(struct pacer *pacer, void *argument), void *argument);
unsigned collector_set_markers(unsigned markers);

void collector_read_totals(struct collector_totals *totals);

/* In a fork's child, first of all. */
void collector_forked(void);

/* After a cycle that made finalizers ready: tells the program.  No lock held, not in a critical section. */
void collector_notify_finalizers(void);

#endif
