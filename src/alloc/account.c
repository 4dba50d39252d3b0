#include "alloc/account.h"

size_t account_live_bytes;
size_t account_trigger_bytes = SIZE_MAX;
uint64_t account_work_ns[ACCOUNT_WORKS];

void account_subtract(size_t bytes) {
  size_t before = atomic_load_relaxed(&account_live_bytes);
  while (!atomic_cas_relaxed(&account_live_bytes, &before, before > bytes ? before - bytes : 0)) {
  }
}
