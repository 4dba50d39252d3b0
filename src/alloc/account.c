#include "alloc/account.h"

size_t account_live_bytes;
size_t account_trigger_bytes = SIZE_MAX;
uint64_t account_work_ns[ACCOUNT_WORKS];
uint32_t account_period;
uint32_t account_watch = ACCOUNT_WATCH_NONE;
void (*account_waker)(void);

void account_notice(void) {
  uint32_t watch = atomic_exchange_acq_rel(&account_watch, (uint32_t)ACCOUNT_WATCH_NONE);
  if (watch == ACCOUNT_WATCH_WAKE && account_waker != NULL) account_waker();
}

void account_subtract(size_t bytes) {
  size_t before = atomic_load_relaxed(&account_live_bytes);
  while (!atomic_cas_relaxed(&account_live_bytes, &before, before > bytes ? before - bytes : 0)) {
  }
  if (UNLIKELY(atomic_load_relaxed(&account_watch) != ACCOUNT_WATCH_NONE)) account_notice();
}
