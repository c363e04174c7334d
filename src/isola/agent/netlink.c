/* Requests to the kernel's rtnetlink: one socket, one request at a time. */
#include "netlink.h"
#include "agent.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static int netlink_fd = -1;
static uint32_t sequence;

void begin_request(struct request *request, uint16_t type, uint16_t flags, size_t body) {
    memset(request, 0, sizeof(*request));
    request->header.nlmsg_len = NLMSG_LENGTH(body);
    request->header.nlmsg_type = type;
    request->header.nlmsg_flags = NLM_F_REQUEST | flags;
}

void add_attribute(struct request *request, uint16_t type, const void *data, size_t size) {
    size_t at = NLMSG_ALIGN(request->header.nlmsg_len);
    if (at + RTA_SPACE(size) > sizeof(*request))
        return;
    struct rtattr *attribute = (struct rtattr *)((uint8_t *)request + at);
    attribute->rta_type = type;
    attribute->rta_len = RTA_LENGTH(size);
    memcpy(RTA_DATA(attribute), data, size);
    request->header.nlmsg_len = at + RTA_SPACE(size);
}

const struct rtattr *find_attribute(const struct nlmsghdr *message, size_t body, uint16_t type) {
    if (message->nlmsg_len < NLMSG_SPACE(body))
        return NULL;
    const struct rtattr *at = (const struct rtattr *)((const uint8_t *)NLMSG_DATA(message) + NLMSG_ALIGN(body));
    size_t left = message->nlmsg_len - NLMSG_SPACE(body);
    for (; RTA_OK(at, left); at = RTA_NEXT(at, left))
        if ((at->rta_type & NLA_TYPE_MASK) == type)
            return at;
    return NULL;
}

/* Whether the answer is complete; *result is its errno. */
static bool take(const uint8_t *data, size_t size, found each, void *context, int *result) {
    for (const struct nlmsghdr *m = (const void *)data; NLMSG_OK(m, size); m = NLMSG_NEXT(m, size)) {
        if (m->nlmsg_seq != sequence)
            continue;
        if (m->nlmsg_type == NLMSG_DONE)
            return true;
        if (m->nlmsg_type == NLMSG_ERROR) {
            *result = -((const struct nlmsgerr *)NLMSG_DATA(m))->error;
            return true;
        }
        if (each)
            each(m, context);
    }
    return false;
}

int run_request(struct request *request, found each, void *context) {
    static _Alignas(NLMSG_ALIGNTO) uint8_t answer[65536];
    int result = 0;
    if (netlink_fd < 0) {
        struct timeval patience = {.tv_sec = 5};
        netlink_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
        if (netlink_fd < 0 || setsockopt(netlink_fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0)
            return errno;
    }
    request->header.nlmsg_seq = ++sequence;
    if ((request->header.nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP) /* NLM_F_REPLACE is one of its bits */
        request->header.nlmsg_flags |= NLM_F_ACK;
    if (send(netlink_fd, request, request->header.nlmsg_len, 0) < 0)
        return errno;
    for (;;) {
        ssize_t size = recv(netlink_fd, answer, sizeof(answer), 0);
        if (size < 0 && errno == EINTR)
            continue;
        if (size <= 0)
            return size < 0 ? errno : EIO;
        if (take(answer, (size_t)size, each, context, &result))
            return result;
    }
}
