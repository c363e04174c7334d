/* Network interfaces: configured as the host says, and reported. */
#include "agent.h"
#include "netlink.h"

#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_INTERFACES 256
#define MAX_ADDRESSES 64

/* --- configuration ---------------------------------------------------------------------------------------------- */

struct wanted {
    uint8_t mac[6];
    int index;
};

static void match(const struct nlmsghdr *message, void *context) {
    struct wanted *wanted = context;
    const struct ifinfomsg *link = NLMSG_DATA(message);
    const struct rtattr *mac = find_attribute(message, sizeof(*link), IFLA_ADDRESS);
    if (mac && RTA_PAYLOAD(mac) == 6 && memcmp(RTA_DATA(mac), wanted->mac, 6) == 0)
        wanted->index = link->ifi_index;
}

static int find_interface(const char *mac, const char *name) {
    struct wanted wanted = {{0}, 0};
    struct request request;
    if (!*mac)
        return (int)if_nametoindex(name);
    unsigned int part[6];
    if (sscanf(mac, "%2x:%2x:%2x:%2x:%2x:%2x", &part[0], &part[1], &part[2], &part[3], &part[4], &part[5]) != 6)
        return 0;
    for (int i = 0; i < 6; i++)
        wanted.mac[i] = (uint8_t)part[i];
    begin_request(&request, RTM_GETLINK, NLM_F_DUMP, sizeof(struct ifinfomsg));
    return run_request(&request, match, &wanted) ? 0 : wanted.index;
}

static int change_link(int index, uint32_t flags, uint32_t mtu, const char *name) {
    struct request request;
    begin_request(&request, RTM_NEWLINK, 0, sizeof(struct ifinfomsg));
    request.body.link.ifi_index = index;
    request.body.link.ifi_flags = flags;
    request.body.link.ifi_change = name ? 0 : IFF_UP;
    if (mtu)
        add_attribute(&request, IFLA_MTU, &mtu, sizeof(mtu));
    if (name)
        add_attribute(&request, IFLA_IFNAME, name, strlen(name) + 1);
    return run_request(&request, NULL, NULL);
}

/* Its size, 0 if it is no address. */
static size_t parse_address(const char *text, uint8_t *family, uint8_t *bytes) {
    *family = strchr(text, ':') ? AF_INET6 : AF_INET;
    if (inet_pton(*family, text, bytes) != 1)
        return 0;
    return *family == AF_INET ? 4 : 16;
}

static int add_address(int index, struct reader *r) {
    struct request request;
    uint8_t bytes[16], family;
    char *text = get_text(r);
    uint8_t length = get_u8(r);
    size_t size = parse_address(text, &family, bytes);
    free(text);
    if (r->bad || !size || length > size * 8)
        return EINVAL;
    begin_request(&request, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof(struct ifaddrmsg));
    request.body.address.ifa_family = family;
    request.body.address.ifa_prefixlen = length;
    request.body.address.ifa_index = (uint32_t)index;
    if (family == AF_INET6)
        request.body.address.ifa_flags = IFA_F_NODAD; /* it was allocated to this guest */
    add_attribute(&request, IFA_LOCAL, bytes, size);
    add_attribute(&request, IFA_ADDRESS, bytes, size);
    return run_request(&request, NULL, NULL);
}

static int add_route(int index, struct reader *r) {
    struct request request;
    uint8_t to[16], by[16], family, by_family = 0;
    char *destination = get_text(r);
    uint8_t length = get_u8(r);
    char *gateway = get_text(r);
    uint32_t metric = get_u32(r), flags = get_u8(r);
    size_t size = parse_address(destination, &family, to);
    size_t by_size = *gateway ? parse_address(gateway, &by_family, by) : 0;
    bool wrong = r->bad || !size || length > size * 8 || (*gateway && by_size != size);
    free(destination);
    free(gateway);
    if (wrong)
        return EINVAL;
    begin_request(&request, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof(struct rtmsg));
    request.body.route = (struct rtmsg){
        .rtm_family = family, .rtm_dst_len = length, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC,
        .rtm_scope = by_size ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK, .rtm_type = RTN_UNICAST,
        .rtm_flags = flags & 1 ? RTNH_F_ONLINK : 0};
    if (length)
        add_attribute(&request, RTA_DST, to, size);
    if (by_size)
        add_attribute(&request, RTA_GATEWAY, by, by_size);
    if (metric)
        add_attribute(&request, RTA_PRIORITY, &metric, sizeof(metric));
    add_attribute(&request, RTA_OIF, &index, sizeof(index));
    return run_request(&request, NULL, NULL);
}

static int apply(int index, struct reader *r, const char *name, uint32_t mtu, size_t addresses) {
    char now[IF_NAMESIZE] = "";
    int error = 0;
    if (*name && if_indextoname((unsigned int)index, now) && strcmp(now, name) != 0) {
        change_link(index, 0, 0, NULL); /* only what is down is renamed by older kernels */
        error = change_link(index, 0, 0, name);
    }
    for (size_t i = 0; !error && i < addresses; i++)
        error = add_address(index, r);
    if (!error)
        error = change_link(index, IFF_UP, mtu, NULL);
    size_t routes = error ? 0 : get_count(r, 14);
    for (size_t i = 0; !error && i < routes; i++)
        error = add_route(index, r);
    return error ? error : all_read(r) ? 0 : EINVAL;
}

int configure(struct reader *r) {
    char *mac = get_text(r), *name = get_text(r);
    uint32_t mtu = get_u32(r);
    size_t addresses = get_count(r, 5);
    int index = r->bad ? 0 : find_interface(mac, name);
    int error = r->bad ? EINVAL : !index ? ENODEV : apply(index, r, name, mtu, addresses);
    free(mac);
    free(name);
    return error;
}

/* --- report ----------------------------------------------------------------------------------------------------- */

struct address {
    int index;
    uint8_t family, length, scope;
    char text[INET6_ADDRSTRLEN];
};

struct report {
    struct buffer *body;
    struct address *addresses;
    size_t count;
    uint32_t interfaces;
};

static void note_address(const struct nlmsghdr *message, void *context) {
    struct report *report = context;
    const struct ifaddrmsg *given = NLMSG_DATA(message);
    const struct rtattr *local = find_attribute(message, sizeof(*given), IFA_LOCAL);
    const struct rtattr *data = local ? local : find_attribute(message, sizeof(*given), IFA_ADDRESS);
    if (!data || report->count >= (size_t)MAX_INTERFACES * MAX_ADDRESSES)
        return;
    report->addresses = reallocate(report->addresses, (report->count + 1) * sizeof(struct address));
    struct address *address = &report->addresses[report->count++];
    *address = (struct address){.index = (int)given->ifa_index, .family = given->ifa_family == AF_INET ? 4 : 6,
                                .length = given->ifa_prefixlen, .scope = given->ifa_scope};
    inet_ntop(given->ifa_family, RTA_DATA(data), address->text, sizeof(address->text));
}

static void put_addresses(struct report *report, int index) {
    size_t place = report->body->size;
    uint32_t count = 0;
    put_u32(report->body, 0);
    for (size_t i = 0; i < report->count && count < MAX_ADDRESSES; i++) {
        struct address *address = &report->addresses[i];
        if (address->index != index)
            continue;
        put_u8(report->body, address->family);
        put_text(report->body, address->text);
        put_u8(report->body, address->length);
        put_u8(report->body, address->scope);
        count++;
    }
    set_u32(report->body, place, count);
}

static void put_link(const struct nlmsghdr *message, void *context) {
    struct report *report = context;
    const struct ifinfomsg *link = NLMSG_DATA(message);
    const struct rtattr *name = find_attribute(message, sizeof(*link), IFLA_IFNAME);
    const struct rtattr *mac = find_attribute(message, sizeof(*link), IFLA_ADDRESS);
    const struct rtattr *mtu = find_attribute(message, sizeof(*link), IFLA_MTU);
    const struct rtattr *data = find_attribute(message, sizeof(*link), IFLA_STATS64);
    struct rtnl_link_stats64 stats = {0};
    char text[18] = "";
    if (!name || report->interfaces >= MAX_INTERFACES)
        return;
    report->interfaces++;
    put_text(report->body, RTA_DATA(name));
    if (mac && RTA_PAYLOAD(mac) == 6) {
        const uint8_t *m = RTA_DATA(mac);
        snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
    }
    put_text(report->body, text);
    put_u32(report->body, mtu ? *(const uint32_t *)RTA_DATA(mtu) : 0);
    put_u32(report->body, link->ifi_flags);
    put_addresses(report, link->ifi_index);
    if (data)
        memcpy(&stats, RTA_DATA(data), RTA_PAYLOAD(data) < sizeof(stats) ? RTA_PAYLOAD(data) : sizeof(stats));
    uint64_t values[] = {stats.rx_bytes, stats.rx_packets, stats.rx_errors, stats.rx_dropped,
                         stats.tx_bytes, stats.tx_packets, stats.tx_errors, stats.tx_dropped};
    for (size_t i = 0; i < 8; i++)
        put_u64(report->body, values[i]);
}

int report_interfaces(struct buffer *b) {
    struct report report = {.body = b};
    struct request request;
    begin_request(&request, RTM_GETADDR, NLM_F_DUMP, sizeof(struct ifaddrmsg));
    int error = run_request(&request, note_address, &report);
    size_t place = b->size;
    put_u32(b, 0);
    if (!error) {
        begin_request(&request, RTM_GETLINK, NLM_F_DUMP, sizeof(struct ifinfomsg));
        error = run_request(&request, put_link, &report);
    }
    set_u32(b, place, report.interfaces);
    free(report.addresses);
    return error;
}
