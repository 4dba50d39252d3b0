/* Threads that allocate rest now and then, where a cycle of dirty-page mode would not end otherwise: rounds (rounds.h) scan what
 * lives of all that is allocated in the cycle, and a program may allocate as fast as they scan.
 *
 * Switched by the driver. */
#ifndef MIDDEN_GC_SLOWING_H
#define MIDDEN_GC_SLOWING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mutator/mutator.h"

/* Not 0 while threads are slowed; atomic. */
extern uint32_t slowing_is_on;

/* A thread is about to allocate: rests for less than a millisecond.  Outside critical sections. */
void slowing_rest(struct mutator *self);

void slowing_set(bool is_on);

/* Switches it on where the heap has grown beyond its goal, by more than forecasts fail. */
void slowing_stem_growth(void);

/* And well beyond: while the heap is drained, assists see to the goal; but a long list that is built meanwhile leaves them nothing
 * to take. */
void slowing_stem_runaway(void);

/* How often threads have rested in this cycle, and for how long, all together; and the cycle begins. */
size_t slowing_rests(void);
uint64_t slowing_rested_ns(void);
void slowing_begin(void);

/* In a fork's child. */
void slowing_forked(void);

#endif
