/* The collector lock on loan: a fork does not wait for a mark phase beside the program; nor, in dirty-page mode, does
 * midden_locked_call.
 *
 * The driver holds the lock for the whole cycle.  Between two slices of marking, when nothing is half done, it lends the lock to
 * who waits to fork:
 *
 *     KEPT     the driver has it, or nobody           -> OFFERED, by the driver
 *     OFFERED  the driver waits for it to come back   -> TAKEN, by who forks; KEPT, by the driver: nobody came
 *     TAKEN    somebody forks, whose lock it is now   -> KEPT, by them
 *
 * The two steps from OFFERED are made by compare and swap. */
#ifndef MIDDEN_GC_LOAN_H
#define MIDDEN_GC_LOAN_H

#include "mutator/mutator.h"

/* Holds the collector lock for a fork, as collector_acquire does; pairs with the next one, in the parent and in the child.  There
 * the lock is made the caller's own first: nobody marks, and the marks are taken back. */
void loan_acquire(struct mutator *self);
void loan_release(void);
void loan_keep_in_child(struct mutator *self);

/* The same to keep the world from being stopped for a while.  Only where the stacks are scanned again in the end: what the
 * caller finds by words that no marker reads is on its stack then. */
void loan_acquire_to_look(struct mutator *self);

/* The driver, in the midst of marking, holding nothing else: lets forks happen that are waiting. */
void loan_offer(struct mutator *self);

#endif
