/** Parts of notices that two pages show. */
import { t } from "@lingui/core/macro";
import { Link } from "@tanstack/react-router";
import type { Delivery, Told } from "@/api/model";
import { Unknown } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import styles from "./access.module.css";

/** A line that leads to what it tells of. */
export function NoticeTitle({ notice }: { notice: Told }) {
  const request = notice.document["request"];
  if (typeof request === "number") {
    return (
      <Link to="/access-requests/$id" params={{ id: String(request) }}>
        {notice.title}
      </Link>
    );
  }
  return notice.kind === "budget" ? <Link to="/limits">{notice.title}</Link> : <>{notice.title}</>;
}

export function Deliveries({ notice }: { notice: Told }) {
  if (notice.deliveries.length === 0) return <Unknown why={t`no address or webhook is named for it`} />;
  return (
    <span className={styles.deliveries}>
      {notice.deliveries.map((each) => (
        <Mark key={each.channel + each.destination} tone={each.state === "sent" ? "ok" : each.state === "failed" ? "bad" : "info"} title={wordsOf(each)}>
          {each.channel === "email" ? each.destination : t`webhook`}
        </Mark>
      ))}
    </span>
  );
}

function wordsOf(delivery: Delivery): string {
  if (delivery.state === "sent") return t`Delivered to ${delivery.destination}`;
  const why = delivery.error ?? t`not tried yet`;
  return delivery.state === "failed" ? t`Given up after ${delivery.attempts} attempts: ${why}` : t`To be delivered to ${delivery.destination}: ${why}`;
}
