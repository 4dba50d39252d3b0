/* Who does the marking beside the program, and how much of it.
 *
 * The driver marks, with helpers where processors are idle, for a quarter of the processors' time on average.  Where that is
 * too little, threads that allocate help: each owes so many bytes of scanning for each byte that it allocates, so that the
 * marking is done when the heap reaches its goal.  What background marking has done beyond its own share is credit that
 * pays for threads' debts.  Where threads fill the processors and owe about as much as the driver would do, they do most of it,
 * and the driver rests (struct pacer_share). */
#ifndef MIDDEN_GC_ASSIST_H
#define MIDDEN_GC_ASSIST_H

#include <stdbool.h>
#include <stddef.h>

#include "gc/cycle.h"

/* A cycle begins, or its marking has ended; the gate is closed. */
void assist_begin(bool minor);
void assist_end(struct collector_report *report);

/* A cycle has marked with the world stopped, and scanned so much. */
void assist_note_stopped(size_t scanned_bytes);

/* In a fork's child: the cycle that was under way is taken back. */
void assist_forget(void);

/* Where the next cycle starts, to end at the goal. */
size_t assist_trigger(size_t goal_bytes, size_t live_bytes);

/* The driver: has each of its workers run a job of some hundred microseconds, as in markers_run. */
void assist_run(struct cycle *cycle, void (*job)(void *argument, unsigned marker), void *argument);

/* How much the workers and threads have scanned in this cycle. */
size_t assist_scanned_bytes(void);

/* The driver: marks until the pool is empty and no marker holds anything. */
void assist_drain(struct cycle *cycle);

/* Who waits for the cycle, or for its end of a slice: the driver is not to sleep out a rest between two. */
void assist_wake_worker(void);

/* Whether threads that allocate owe work; atomic. */
extern bool assist_is_due;

/* A thread is about to allocate: pays for `bytes`, by one slice of some twenty microseconds or, for a large object, as many as a
 * window of each of its parts would be worth.  Outside critical sections. */
void assist_pay(struct mutator *self, size_t bytes);

#endif
