/* The background thread: one for the whole library, for housekeeping that nobody waits for.
 *
 * It calls tasks (sweeping behind the program, giving memory back).  A task does one bounded slice of its work, some tens
 * of microseconds, and says when it wants to be called again.  What a slice is for a stop: the thread is a mutator like
 * any other, SAFE between slices, RUNNING in one, so that the stop protocol knows nothing of it.  A stop finds it SAFE,
 * or waits until a slice leaves its critical section.
 *
 *     none     no thread                               background_wake -> starting
 *     starting the thread is being made                it runs, or (refused) -> none
 *     started  it sleeps on `pokes`, or runs tasks     a fork's child -> none
 *
 * The steps from `none` are made by compare and swap, so one thread is made; which one wins does not matter.  A poke is
 * an addition to `pokes`, which the thread reads (acquire) before it calls the tasks: it sees all that was written before
 * the poke (release), and does not fall asleep on a number that has changed.
 *
 * It starts with the first poke, not with the library: programs fork, and count their threads.  A fork's child starts
 * its own when poked.  Where the system refuses a thread, everything goes on without; the next poke tries again.
 *
 * Manners.  With more to do it works BACKGROUND_BATCH_NS, then rests three times as long, so that it takes a quarter of
 * one processor at most.  It has the program's priority: with a lower one, a busy machine could leave it lying in a
 * critical section for which a stop waits.  But it does not push others off a processor when it wakes up, and lets
 * them have it after each slice.  Without work it sleeps until poked.
 *
 * All signals but the one that stops threads are blocked in it.  Its stack is scanned while a task runs: a task may hold
 * objects, and may run a collection.  It does not count in midden_stats. */
#ifndef MIDDEN_GC_BACKGROUND_H
#define MIDDEN_GC_BACKGROUND_H

#include <stdbool.h>
#include <stdint.h>

#include "mutator/mutator.h"

enum { BACKGROUND_TASKS_MAX = 6, BACKGROUND_BATCH_NS = 100000, BACKGROUND_REST_NS = 300000 };

/* Does one slice.  Called in the background thread, RUNNING, in no critical section, no lock held; `now_ns` is os_now_ns.
 * Returns in how many nanoseconds it wants to be called again: 0 at once, UINT64_MAX when poked.  A poke calls every task,
 * whatever it asked for. */
typedef uint64_t background_task_fn(struct mutator *self, uint64_t now_ns);

/* Both at start, before other threads exist.  Without background_enable a poke does nothing. */
void background_register(background_task_fn *task);
void background_enable(void);

/* Pokes the thread, and starts it if there is none.  Any thread, with no lock of the heap but the collector's, in no
 * critical section, not while the world is stopped: starting a thread allocates. */
void background_wake(void);

/* The same where there is a thread already; otherwise nothing.  Anywhere. */
void background_poke(void);

bool background_is_started(void); /* for tests and figures */

/* In a fork's child: the thread is gone. */
void background_forget(void);

#endif
