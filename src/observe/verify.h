/* The verifier: walks the heap's structures, the world stopped, and stops the process where an invariant is broken. */
#ifndef MIDDEN_OBSERVE_VERIFY_H
#define MIDDEN_OBSERVE_VERIFY_H

void verify_heap_stw(void);

#endif
