-- In the business's own databases: money by the day on which it was spent, customers by the day, in New York, on
-- which they came. A channel that costs nothing or brings nobody is there all the same; nobody: null.
select
    date_trunc('{grain}', day)::date as starts, {members}
    sum(spent) / nullif(sum(customers), 0) as value
from
    (
        select spent_on as day, channel, campaign, amount as spent, 0 as customers from expenses
        union all
        select (created_at at time zone '{zone}')::date, channel, campaign, 0, 1 from accounts
    ) as everything
group by {keys}
