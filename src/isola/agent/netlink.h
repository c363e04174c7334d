/* Requests to the kernel's rtnetlink. */
#ifndef ISOLA_NETLINK_H
#define ISOLA_NETLINK_H

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <stdint.h>

struct request {
    struct nlmsghdr header;
    union {
        struct ifinfomsg link;
        struct ifaddrmsg address;
        struct rtmsg route;
        uint8_t room[1024];
    } body;
};

typedef void (*found)(const struct nlmsghdr *message, void *context);

void begin_request(struct request *request, uint16_t type, uint16_t flags, size_t body);
void add_attribute(struct request *request, uint16_t type, const void *data, size_t size);
int run_request(struct request *request, found each, void *context); /* an errno */
const struct rtattr *find_attribute(const struct nlmsghdr *message, size_t body, uint16_t type);

#endif
