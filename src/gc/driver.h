/* The driver: the thread that runs the cycles beside the program, one for the library, made when first needed.
 *
 * Requests are counted: `requests` grows when a cycle is asked for, and the driver notes in `served` how far it had read when
 * the cycle that it has finished began.  Who waits for a cycle that begins after the request waits until served reaches the
 * request's number.
 *
 *     none     no thread                    driver_request -> starting
 *     starting the thread is being made     it runs, or (refused) -> none
 *     started  it sleeps or runs cycles     a fork's child -> none
 *
 * Where the system refuses a thread, requests are refused, and the caller runs a cycle that stops the world. */
#ifndef MIDDEN_GC_DRIVER_H
#define MIDDEN_GC_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "gc/collector.h"

/* Whether a thread is the driver.  That is told of finalizers, and may run them: it cannot wait for itself. */
bool driver_is(const struct mutator *self);

/* Asks for a cycle; for COLLECT_HEAP returns at once, otherwise when one that began after the call is done, SAFE
 * meanwhile.  False where there is no driver, or it leaves without having served the request.  Outside critical sections. */
bool driver_request(struct mutator *self, enum collector_reason reason);

/* Where a cycle is under way: waits until it is over, SAFE meanwhile, and gives true.  Outside critical sections. */
bool driver_await_end(struct mutator *self);

/* Asks for an idle cycle and does not wait: nobody is in a hurry for it.  False where there is no driver.  When the driver
 * has served the request it says so (idle_cycle_ended). */
bool driver_ask_idle(uint32_t *request);
bool driver_has_served(uint32_t request);

/* Whether anybody waits for a cycle to end; atomic. */
bool driver_is_urgent(void);

/* Those look whether they are wanted (handover.h). */
void driver_wake_waiting(void);

/* In a fork's child: the thread is gone. */
void driver_forget(void);

#endif
