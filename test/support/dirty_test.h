/* What tests of dirty-page mode ask first: whether this system tells which pages were written. */
#ifndef MIDDEN_TEST_SUPPORT_DIRTY_TEST_H
#define MIDDEN_TEST_SUPPORT_DIRTY_TEST_H

#include "mutator/written.h"
#include "os/os.h"
#include "support/heap_test.h"

static inline int test_ask_system(void *unused) {
  (void)unused;
  os_init();
  return written_is_available() ? 0 : TEST_SKIPPED;
}

/* In a child: the library is not started by it. */
static inline bool test_writes_are_told(void) { return test_child(test_ask_system, NULL, 20).status == 0; }

#endif
