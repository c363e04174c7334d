/* What boot.c and main.c share. */
#ifndef ISOLA_BOOT_H
#define ISOLA_BOOT_H

#include <stdbool.h>

extern int sys_fd, dev_fd;
extern bool is_machine; /* switching off is ours; otherwise this is a process of a test */

void open_places(void);
void flush_outgoing(void);

#endif
