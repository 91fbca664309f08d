// SPDX-License-Identifier: GPL-2.0-only
/*
 * netdev - mirror0, a network interface that is its own neighbour
 *
 * Each frame comes back, with the sender's and the receiver's addresses
 * exchanged, those of Ethernet and those of IPv4. Whoever talks to another
 * address of the interface's network talks to themselves:
 *
 *	ip addr add 10.0.0.1/24 dev mirror0
 *	ip link set mirror0 up
 *	ping 10.0.0.2
 *
 * An exchange of two addresses leaves all checksums as they are.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/etherdevice.h>
#include <linux/if_ether.h>
#include <linux/init.h>
#include <linux/ip.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/netdevice.h>
#include <linux/printk.h>
#include <linux/skbuff.h>
#include <linux/u64_stats_sync.h>

#define MIRROR_MTU_MAX 9000

static unsigned int drop_every;
module_param(drop_every, uint, 0644);
MODULE_PARM_DESC(drop_every, "drop each frame whose number this divides; 0: none");

/**
 * struct mirror - an interface's own data
 * @sync:	for readers of @frames, @bytes and @dropped; the queue's lock
 *		keeps writers apart
 * @seen:	frames that were to be sent
 * @frames:	frames that came back
 * @bytes:	and their bytes, with the Ethernet header
 * @dropped:	frames that did not
 */
struct mirror {
	struct u64_stats_sync sync;
	unsigned int seen;
	u64 frames;
	u64 bytes;
	u64 dropped;
};

static void mirror_count(struct mirror *mirror, unsigned int len)
{
	u64_stats_update_begin(&mirror->sync);
	if (len) {
		mirror->frames++;
		mirror->bytes += len;
	} else {
		mirror->dropped++;
	}
	u64_stats_update_end(&mirror->sync);
}

static bool mirror_drops(struct mirror *mirror)
{
	unsigned int every = READ_ONCE(drop_every);

	mirror->seen++;
	return every && mirror->seen % every == 0;
}

static void mirror_exchange(struct sk_buff *skb)
{
	struct ethhdr *eth = (struct ethhdr *)skb->data;
	struct iphdr *ip = (struct iphdr *)(eth + 1);
	u8 address[ETH_ALEN];

	ether_addr_copy(address, eth->h_dest);
	ether_addr_copy(eth->h_dest, eth->h_source);
	ether_addr_copy(eth->h_source, address);
	if (eth->h_proto == htons(ETH_P_IP) && skb_headlen(skb) >= ETH_HLEN + sizeof(*ip))
		swap(ip->saddr, ip->daddr);
}

static netdev_tx_t mirror_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct mirror *mirror = netdev_priv(dev);
	unsigned int len = skb->len;

	/* Whoever captures packets may have the same bytes in hand. */
	skb = skb_unshare(skb, GFP_ATOMIC);
	if (!skb || mirror_drops(mirror) || skb_linearize(skb)) {
		mirror_count(mirror, 0);
		dev_kfree_skb_any(skb);
		return NETDEV_TX_OK;
	}
	skb_tx_timestamp(skb);
	skb_orphan(skb);
	skb_scrub_packet(skb, false);
	mirror_exchange(skb);
	skb->protocol = eth_type_trans(skb, dev);
	mirror_count(mirror, len);
	netif_rx(skb);
	return NETDEV_TX_OK;
}

static void mirror_get_stats64(struct net_device *dev, struct rtnl_link_stats64 *stats)
{
	struct mirror *mirror = netdev_priv(dev);
	unsigned int start;

	do {
		start = u64_stats_fetch_begin(&mirror->sync);
		stats->tx_packets = mirror->frames;
		stats->tx_bytes = mirror->bytes;
		stats->tx_dropped = mirror->dropped;
	} while (u64_stats_fetch_retry(&mirror->sync, start));
	stats->rx_packets = stats->tx_packets;
	stats->rx_bytes = stats->tx_bytes;
}

static int mirror_open(struct net_device *dev)
{
	netif_start_queue(dev);
	return 0;
}

static int mirror_stop(struct net_device *dev)
{
	netif_stop_queue(dev);
	return 0;
}

static const struct net_device_ops mirror_ops = {
	.ndo_open = mirror_open,
	.ndo_stop = mirror_stop,
	.ndo_start_xmit = mirror_xmit,
	.ndo_get_stats64 = mirror_get_stats64,
	.ndo_set_mac_address = eth_mac_addr,
	.ndo_validate_addr = eth_validate_addr,
};

static void mirror_setup(struct net_device *dev)
{
	struct mirror *mirror = netdev_priv(dev);

	ether_setup(dev);
	eth_hw_addr_random(dev);
	dev->netdev_ops = &mirror_ops;
	dev->max_mtu = MIRROR_MTU_MAX;
	/* There is nobody who could answer to ARP. */
	dev->flags |= IFF_NOARP;
	u64_stats_init(&mirror->sync);
}

static struct net_device *mirror;

static int __init mirror_init(void)
{
	int error;

	mirror = alloc_netdev(sizeof(struct mirror), "mirror%d", NET_NAME_ENUM, mirror_setup);
	if (!mirror)
		return -ENOMEM;
	error = register_netdev(mirror);
	if (error) {
		free_netdev(mirror);
		return error;
	}
	pr_info("%s, MTU of at most %d bytes\n", mirror->name, MIRROR_MTU_MAX);
	return 0;
}

static void __exit mirror_exit(void)
{
	unregister_netdev(mirror);
	free_netdev(mirror);
}

module_init(mirror_init);
module_exit(mirror_exit);

MODULE_DESCRIPTION("a network interface that sends everything back");
MODULE_LICENSE("GPL");
