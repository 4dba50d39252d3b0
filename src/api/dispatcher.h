/* The dispatcher: a thread of the library that runs finalizers and cleanups. */
#ifndef MIDDEN_API_DISPATCHER_H
#define MIDDEN_API_DISPATCHER_H

#include <stdbool.h>

/* Wakes the dispatcher; false if there is none. */
bool dispatcher_wake(void);

/* In a fork's child: it is gone. */
void dispatcher_forked(void);

#endif
