/* How many finalizers have run, ever. */
#ifndef MIDDEN_API_SPECIALS_H
#define MIDDEN_API_SPECIALS_H

#include <stdint.h>

uint64_t specials_finalizers_run(void);

#endif
