#include "gc/limiter.h"

#include "base/atomic.h"

void limiter_init(struct limiter *limiter, uint64_t process_ns) { *limiter = (struct limiter){.seen_ns = process_ns}; }

void limiter_charge(struct limiter *limiter, uint64_t collector_ns) {
  atomic_store_relaxed(&limiter->level_ns, limiter->level_ns + collector_ns);
  limiter->unsettled_ns += collector_ns;
}

/* Processor time is charged when it is known, the process's clock is read later: the difference may be short for a while,
 * never lost. */
static uint64_t program_share(struct limiter *limiter, uint64_t process_ns) {
  uint64_t passed_ns = process_ns > limiter->seen_ns ? process_ns - limiter->seen_ns : 0;
  limiter->seen_ns = process_ns;
  if (passed_ns < limiter->unsettled_ns) {
    limiter->unsettled_ns -= passed_ns;
    return 0;
  }
  passed_ns -= limiter->unsettled_ns;
  limiter->unsettled_ns = 0;
  return passed_ns;
}

bool limiter_allows(struct limiter *limiter, uint64_t process_ns) {
  uint64_t program_ns = program_share(limiter, process_ns);
  uint64_t level_ns = limiter->level_ns > program_ns ? limiter->level_ns - program_ns : 0;
  atomic_store_relaxed(&limiter->level_ns, level_ns);
  if (level_ns < LIMITER_CAPACITY_NS) return true;
  atomic_store_relaxed(&limiter->yield_count, limiter->yield_count + 1);
  return false;
}
