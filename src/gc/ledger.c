#include "gc/ledger.h"

#include "base/lock.h"
#include "mutator/mutator.h"

static struct tally reclaimed; /* under the lock of the list of mutators */

/* What was allocated before its thread was black, in the cycle that runs. */
static struct {
  struct lock lock;
  struct tally allocated; /* under lock */
} notes = {.lock = LOCK_INIT(LOCK_RANK_LEAF)};

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

void ledger_open_notes_locked(void) { notes.allocated = cache_retired.allocated; }

void ledger_note_black(struct cache *cache) {
  struct tally allocated = {0};
  uint64_t tiny_allocations = 0;
  cache_read_allocated(cache, &allocated, &tiny_allocations);
  lock_acquire(&notes.lock);
  tally_add(&notes.allocated, &allocated);
  lock_release(&notes.lock);
}

void ledger_close_notes_locked(const struct tally *marked) {
  struct tally dead = notes.allocated, freed = cache_retired.freed;
  for (struct link *link = mutator_list.first; link != NULL; link = link->next)
    cache_read_freed(&mutator_from(link)->cache, &freed);
  tally_subtract(&dead, &freed);
  tally_subtract(&dead, &reclaimed);
  tally_subtract(&dead, marked);
  tally_add(&reclaimed, &dead);
}
