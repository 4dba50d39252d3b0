#include "gc/ledger.h"

#include "mutator/mutator.h"

static struct tally reclaimed; /* under the lock of the list of mutators */

/* Frees first: see "Counting" in alloc/cache.h. */
void ledger_read_locked(struct ledger *ledger) {
  *ledger = (struct ledger){.allocated = cache_retired.allocated,
                            .freed = cache_retired.freed,
                            .reclaimed = reclaimed,
                            .tiny_allocations = cache_retired.tiny_allocations};
  for (struct link *link = mutator_list.first; link != NULL; link = link->next)
    cache_read_freed(&mutator_from(link)->cache, &ledger->freed);
  for (struct link *link = mutator_list.first; link != NULL; link = link->next)
    cache_read_allocated(&mutator_from(link)->cache, &ledger->allocated, &ledger->tiny_allocations);
}

void ledger_living(const struct ledger *ledger, struct tally *living) {
  *living = ledger->allocated;
  tally_subtract(living, &ledger->freed);
  tally_subtract(living, &ledger->reclaimed);
}

void ledger_close_cycle_stw(const struct tally *marked) {
  struct ledger ledger;
  struct tally living;
  ledger_read_locked(&ledger);
  ledger_living(&ledger, &living);
  tally_subtract(&living, marked);
  tally_add(&reclaimed, &living);
}
