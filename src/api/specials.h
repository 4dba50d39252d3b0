/* Finalizers and cleanups: what else of the library needs to know. */
#ifndef MIDDEN_API_SPECIALS_H
#define MIDDEN_API_SPECIALS_H

#include <stdint.h>

/* How many have run, ever. */
uint64_t specials_finalizers_run(void);
uint64_t specials_cleanups_run(void);

/* From now on collections that make calls ready tell the dispatcher, or the program. */
void specials_listen(void);

#endif
