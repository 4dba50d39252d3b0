/* The remembered set of minor cycles in barrier mode: what old objects refer to on the cards that were noted since the last cycle
 * began (span/cards.h).
 *
 * Read by the driver's workers, before the heap is drained; what is found is grey, for all who mark. */
#ifndef MIDDEN_GC_REMEMBERED_H
#define MIDDEN_GC_REMEMBERED_H

#include "gc/cycle.h"

/* By the driver, in MARK: every thread was scanned. */
void remembered_scan(struct cycle *cycle);

#endif
